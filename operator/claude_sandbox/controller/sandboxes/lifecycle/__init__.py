"""When a sandbox's time is over by spec.lifecycle, and what is done then. What decides is pure (`life.py`)."""
