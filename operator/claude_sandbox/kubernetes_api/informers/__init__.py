"""Copies that follow the API server: list, watch, and what is kept of each object. They ask by the client alone."""
