"""How the key and the managed settings get into a sandbox, and what is there now."""
