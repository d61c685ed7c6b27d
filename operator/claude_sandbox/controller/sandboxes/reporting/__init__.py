"""What is said of a sandbox, from what a pass found: conditions, status, Events, metrics."""
