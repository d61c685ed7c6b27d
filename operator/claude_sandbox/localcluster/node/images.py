"""The images that a node itself needs, and how an image gets to a node without a registry."""

import os
from collections.abc import Callable

from claude_sandbox.localcluster import builder
from claude_sandbox.localcluster.images.archive import ImageArchive, of_programs
from claude_sandbox.localcluster.layout import cache_dir
from claude_sandbox.localcluster.node.commands import call
from claude_sandbox.localcluster.node.config import CONTAINERD_SOCKET
from claude_sandbox.localcluster.node.names import Names
from claude_sandbox.localcluster.node.namespaces import enter
from claude_sandbox.localcluster.ospackages import Programs
from claude_sandbox.localcluster.tools import Tool

PAUSE = Tool("pause", "1", "pause", "claudesandbox.dev/localcluster/pause")
COREDNS = Tool("coredns", "1.14.7", "coredns", "claudesandbox.dev/localcluster/coredns")


def program_image(tool: Tool, report: Callable[[str], None]) -> ImageArchive:
    """An image of one program of ours, built where the cache lacks it."""
    program = builder.build(tool, report)
    parent = cache_dir() / "images"
    target = parent / f"{tool.name}-{program.parent.name}.tar"
    reference = f"claudesandbox.dev/{tool.name}:{tool.version}"
    path = f"/{tool.name}"
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Cheap enough to be made anew each time, which also tells the digest.
    return of_programs({path: program}, target, reference, builder.goarch(), (path,))


def load(names: Names, archive: ImageArchive, programs: Programs) -> None:
    """Give the image to the node's containerd, by tag and by digest; nothing happens where it is there already."""
    ctr = (*enter(names), str(programs.path("ctr")), "--address", CONTAINERD_SOCKET, "--namespace", "k8s.io", "images")
    environment = {**os.environ, **programs.environment()}
    known = call([*ctr, "list", "--quiet"], environment).split()
    if archive.pinned in known and archive.reference in known and _same(ctr, archive, environment):
        return
    call([*ctr, "import", archive.path], environment)
    call([*ctr, "tag", "--force", archive.reference, archive.pinned], environment)


def _same(ctr: tuple[str, ...], archive: ImageArchive, environment: dict[str, str]) -> bool:
    line = call([*ctr, "list", f"name=={archive.reference}"], environment)
    return archive.digest in line
