"""Everything of the cluster that is followed, and which sandboxes a change concerns."""
