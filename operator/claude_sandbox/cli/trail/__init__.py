"""`claude-sandbox trail`: the operator's audit trail, for people."""
