"""Sessions of people in sandboxes on Docker, by the operator's channel. See `server` for how it works."""
