"""The controls of a container, by family."""
