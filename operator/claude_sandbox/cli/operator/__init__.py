"""`claude-sandbox run`."""
