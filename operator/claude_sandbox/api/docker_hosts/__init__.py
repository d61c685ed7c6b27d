"""The contract of a DockerHost: what an administrator says of one, and what the operator reports of it."""
