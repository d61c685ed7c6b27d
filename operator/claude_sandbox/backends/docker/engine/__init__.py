"""One Docker Engine: how it is reached, asked, and held to bounds. Knows nothing of sandboxes."""
