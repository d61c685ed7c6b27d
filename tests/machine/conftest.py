"""The installation, for every test in here."""

from dockerkit import stand_in_image
from machinekit import installed, machine_engine

__all__ = ["installed", "machine_engine", "stand_in_image"]
