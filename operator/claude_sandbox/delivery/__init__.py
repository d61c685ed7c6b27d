"""Puts a key into a file in memory: what runs for a moment beside a sandbox on Docker, so that its key gets there.

Needs nothing but the standard library, and nothing of the rest of the project.
"""

READY = "ready"
"""Printed as a line of its own when the key is in place."""
MARKER = "~generation"
"""The file beside the key that tells which generation it is. No key of a Secret can have this name."""
