"""`claude-sandbox backup` and `claude-sandbox restore`: they make objects and wait; the operator does the work."""
