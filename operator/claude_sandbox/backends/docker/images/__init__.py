"""Images on an engine: pulled in the background, with which login, and removed when nothing needs them."""
