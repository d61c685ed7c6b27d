"""Builds what the tests' clusters are made of, where the cache lacks it. Run before the tests: it may take minutes.

`python -m tests.programs` is for control planes; with `--node` the programs of nodes and of Docker Engines, and the
images, are built as well, unless this is not run as root: then there are neither nodes nor engines.
"""

import os
import sys

from claude_sandbox.localcluster import controlplane, engine, images, node
from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.programs import builder, toolchain
from claude_sandbox.localcluster.programs.tools import (
    DEFAULT_KUBERNETES,
    ENGINE,
    KUBERNETES_RELEASES,
    kubernetes_release,
    tool,
)
from claude_sandbox.machine import settings

_CONTROL_PLANE = (
    controlplane.ETCD,
    controlplane.APISERVER,
    controlplane.CONTROLLER_MANAGER,
    controlplane.SCHEDULER,
)


def main() -> int:
    wanted = [tool(name, release) for release in KUBERNETES_RELEASES.values() for name in _CONTROL_PLANE]
    with_node = "--node" in sys.argv and os.geteuid() == 0
    if with_node:
        release = kubernetes_release(DEFAULT_KUBERNETES)
        wanted += [tool(name, release) for name in (*node.BINARIES, "coredns", "pause")]
        wanted += ENGINE.values()
        wanted += [tool(name, release) for name in settings.PROGRAMS if name != "kubectl"]
    try:
        toolchain.kubectl(_report)
        builder.build_all(list(dict.fromkeys(wanted)), _report)
        for engine_release in engine.RELEASES if with_node else ():
            engine.build(engine_release, _report)
        for image in images.NAMES if with_node else ():
            images.build_image(image, _report)
    except LocalClusterError as error:
        print(f"Error: {error.message}\nRemedy: {error.remedy}", file=sys.stderr)
        return 1
    return 0


def _report(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
