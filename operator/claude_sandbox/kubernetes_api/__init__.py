"""The API server, for whoever needs it: requests, errors, and copies that follow it.

Of the product it knows the kinds of objects and what of each is read, so that no more is kept. Nothing else speaks
HTTP with the API server, but for kopf's own watch (`controller/sandboxes/watch_stream.py`).
"""
