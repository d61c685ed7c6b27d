"""A node's network: the way to it from the machine, what its pods can't get around, and a question to its resolver."""
