"""HOST: whether a Docker Engine and its host are a place for sandboxes: a view of its documents, and the controls."""
