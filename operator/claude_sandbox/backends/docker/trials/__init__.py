"""Another image is tried beside a sandbox on Docker."""
