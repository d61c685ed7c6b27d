"""What is done for each kind of step of a plan: calls of the engine, in the order that is safe. `apply` calls them."""
