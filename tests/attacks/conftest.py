"""Fixtures for the attacks: a sandbox's image on the engines."""

from dockerkit import host, stand_in_image

__all__ = ["host", "stand_in_image"]
