"""The parts of `ClaudeSandbox.spec`, a module for each of its fields. What holds between fields is in `api/spec.py`."""
