"""What is done about an incident that was declared (spec.incident), before anything else is looked at."""
