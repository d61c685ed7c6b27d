"""Images on an engine, and what is in the operator's own: there in time, and removed when nothing needs them."""
