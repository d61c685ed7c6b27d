"""What tokens cost, what a sandbox may spend, and where that is kept. Money and counts; no HTTP."""
