"""`claude-sandbox check`: the controls of any container, pod or host."""
