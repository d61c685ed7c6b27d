"""A sandbox in quarantine on an engine: it is frozen and cut off, and what it was is kept."""
