"""What the agent changed, computed on this machine by a git that reads nothing of the repository but its content.

A git that runs in the sandbox can be lied to. A git that runs here on the agent's `.git` does what its configuration
says: it runs file system monitors, filters, text converters, other diff programs, hooks. So of the repository only
objects, the names of commits and the files' bytes are taken, and put into a repository of our own.
"""
