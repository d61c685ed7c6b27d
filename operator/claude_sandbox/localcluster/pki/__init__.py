"""Certificates, and who trusts whom in a local cluster. Files are written here; no program is run."""
