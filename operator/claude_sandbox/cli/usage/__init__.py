"""`claude-sandbox usage`: what sandboxes have used of the model, and what is left of their budgets."""
