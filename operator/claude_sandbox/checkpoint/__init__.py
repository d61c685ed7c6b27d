"""What encrypts a checkpoint of a container's memory to a recipient: a program in a container of its own.

It has the checkpoint read-only, the evidence beside it, and no network. Only the recipient's public key comes to it.
"""

SOURCE = "/checkpoint"
"""Where the checkpoint is mounted."""
