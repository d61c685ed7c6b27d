"""The benchmark of sandboxes on a Docker host."""
