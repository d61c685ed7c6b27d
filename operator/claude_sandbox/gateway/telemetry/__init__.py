"""What a gateway tells of itself and of its sandboxes, by a listener that no sandbox can reach."""
