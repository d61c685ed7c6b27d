"""What of the operator's work goes into the audit trail (`claude_sandbox/trail`), without anything secret."""
