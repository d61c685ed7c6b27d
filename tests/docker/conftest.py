"""Fixtures for every test in here: a sandbox's image on the engines, and an ssh client."""

from dockerkit import host, stand_in_image
from sshkit import ssh_client

__all__ = ["host", "ssh_client", "stand_in_image"]
