"""`claude-sandbox incident`: the bad days."""
