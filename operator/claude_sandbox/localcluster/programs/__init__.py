"""The programs that a cluster or an engine is made of: which, from what, and how they are built once for a machine."""
