"""How a sandbox's repositories come into its workspace: by a container before its own (`beside`), and what the
sandbox's own tells of it (`within`)."""
