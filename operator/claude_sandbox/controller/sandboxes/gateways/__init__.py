"""What concerns sandboxes with a gateway: whose keys it needs, and what it has told of them."""
