"""HTTP/1 and JSON read strictly as bytes arrive. What decides is pure; only `forward` and `connection` do I/O."""
