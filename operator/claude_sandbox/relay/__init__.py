"""A TCP relay of a few ports: what runs beside a sandbox on Docker, so that its declared ports can be published.

Needs nothing but the standard library, and nothing of the rest of the project.
"""
