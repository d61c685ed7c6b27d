"""How an engine is reached: endpoints, credentials, certificates, and why one can't be used. Nothing is asked here."""
