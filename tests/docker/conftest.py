"""Docker Engines, for every test in here."""

from enginekit import docker_engine, engine_release, may_have_engines, tiny_image

__all__ = ["docker_engine", "engine_release", "may_have_engines", "tiny_image"]
