"""Paths of a host that mean more than a file: how they are compared, and which hold sockets or logins. Pure."""
