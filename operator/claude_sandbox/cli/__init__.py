"""The command line: one module, or one package, for each command. What a command does is done elsewhere."""
