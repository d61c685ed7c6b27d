"""The images that a node itself needs, and how an image gets to a node without a registry."""

import os

from claude_sandbox.localcluster.context import NodeContext
from claude_sandbox.localcluster.images.archive import ImageArchive, of_programs
from claude_sandbox.localcluster.node.commands import call
from claude_sandbox.localcluster.node.config import CONTAINERD_SOCKET
from claude_sandbox.localcluster.node.names import Names
from claude_sandbox.localcluster.node.namespaces import enter
from claude_sandbox.localcluster.programs import builder
from claude_sandbox.localcluster.programs.os_packages import Programs
from claude_sandbox.localcluster.programs.tools import tool


def of_program(name: str, context: NodeContext) -> ImageArchive:
    """An image of one of the programs that were built for the node."""
    version = tool(name, context.kubernetes_version).version
    directory = context.layout.node / "images"
    directory.mkdir(mode=0o700, exist_ok=True)
    path = f"/{name}"
    # Cheap enough to be made anew each time, which also tells the digest.
    return of_programs(
        {path: context.binaries[name]},
        directory / f"{name}.tar",
        f"claudesandbox.dev/{name}:{version}",
        builder.goarch(),
        (path,),
    )


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
