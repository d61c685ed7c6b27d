"""A sandbox in quarantine in a cluster: it is denied everything, what can be had of it is kept, and it is ended."""
