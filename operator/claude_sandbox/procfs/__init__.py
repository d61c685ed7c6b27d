"""How files of /proc and of control groups are read, for whoever takes the kernel for a witness. Judges nothing.

Needs nothing but the standard library, and nothing of the rest of the project.
"""
