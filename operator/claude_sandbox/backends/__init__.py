"""How a sandbox comes to be: `kubernetes/` and `docker/`, the same loop with the same names, over one `apply`."""
