"""A sandbox's image on the engines, for every test in here."""

from dockerkit import host, stand_in_image

__all__ = ["host", "stand_in_image"]
