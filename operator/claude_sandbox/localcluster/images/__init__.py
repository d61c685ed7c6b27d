"""The project's container images, built without or with an image registry."""

from claude_sandbox.localcluster.images.archive import ImageArchive
from claude_sandbox.localcluster.images.build import NAMES, build_image

__all__ = ["NAMES", "ImageArchive", "build_image"]
