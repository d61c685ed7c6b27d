"""The contract: models of the resources, their rules and names. Pure; below everything that knows sandboxes."""
