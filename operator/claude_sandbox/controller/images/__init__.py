"""Which images may run, by which digest: policies, signatures, and the registries that are asked for them."""
