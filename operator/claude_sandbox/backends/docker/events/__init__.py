"""What an engine tells by itself: which sandbox an event concerns, what was expected, who comes in from outside."""
