"""Judges that are longer than the entry that names them, or that several families share. Pure; no entries here."""
