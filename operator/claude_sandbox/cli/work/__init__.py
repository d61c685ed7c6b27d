"""`claude-sandbox shell`, `cp`, `logs` and `diff`: working with a sandbox by hand.

Whatever comes out of a sandbox was written by a hostile agent: a log, a name, an archive, a repository. What is shown
is made plain first (`plain.py`), what is kept is written by `unpacking.py` alone, and nothing of it is ever run here.
"""
