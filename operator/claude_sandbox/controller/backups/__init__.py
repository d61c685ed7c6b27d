"""Looking after ClaudeSandboxBackups: each is made once, by a helper beside the sandbox."""
