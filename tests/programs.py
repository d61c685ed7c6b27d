"""Builds what the tests' clusters are made of, where the cache lacks it. Run before the tests: it may take minutes.

Without root there is no node, so its programs are not needed.
"""

import importlib
import importlib.util
import os
import sys

from claude_sandbox.localcluster import builder, controlplane, toolchain
from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.tools import DEFAULT_KUBERNETES, KUBERNETES_RELEASES, kubernetes_release, tool

_CONTROL_PLANE = (
    controlplane.ETCD,
    controlplane.APISERVER,
    controlplane.CONTROLLER_MANAGER,
    controlplane.SCHEDULER,
)
_NODE = "claude_sandbox.localcluster.node"


def main() -> int:
    wanted = [tool(name, release) for release in KUBERNETES_RELEASES.values() for name in _CONTROL_PLANE]
    if os.geteuid() == 0 and importlib.util.find_spec(_NODE):
        release = kubernetes_release(DEFAULT_KUBERNETES)
        wanted += [tool(name, release) for name in importlib.import_module(_NODE).BINARIES]
    try:
        toolchain.kubectl(_report)
        builder.build_all(list(dict.fromkeys(wanted)), _report)
    except LocalClusterError as error:
        print(f"Error: {error.message}\nRemedy: {error.remedy}", file=sys.stderr)
        return 1
    return 0


def _report(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
