"""What a push asks for, what of it is allowed, and how a refusal is told. Pure: no connection is known here."""
