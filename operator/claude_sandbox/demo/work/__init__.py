"""The work that the demo has an agent do: a private repository with a mistake in it, and what becomes of that."""
