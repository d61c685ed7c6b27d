"""`claude-sandbox report`: what was measured of sandboxes, for people, auditors and other programs."""
