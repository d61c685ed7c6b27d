"""What Prometheus sees. Read from what the stores hold when it is asked for; nothing is kept for it alone."""
