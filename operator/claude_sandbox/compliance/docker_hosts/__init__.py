"""HOST: whether a Docker Engine and its host are a place for sandboxes. Evidence, controls, report; pure."""
