"""What is safe: a spec becomes a hardened workload that is free of any backend. Pure."""
