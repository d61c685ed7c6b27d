"""Looking after ClaudeSandboxes: watched, reconciled, reported."""
