"""The egress proxy: CONNECT and plain HTTP to the destinations that were declared by name."""
