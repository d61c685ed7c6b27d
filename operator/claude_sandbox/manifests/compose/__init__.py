"""Compose files: each service as `docker inspect` would tell of its container, and judged as that."""
