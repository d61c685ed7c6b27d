"""Writes the page of the Strict filter, its file for nodes and the object that brings it there, or compares them
with --check: `python -m claude_sandbox.seccomp.generate`."""

import sys
from pathlib import Path

from claude_sandbox import generated
from claude_sandbox.seccomp import docs, kubelet

PATH = Path("docs/reference") / docs.FILE
NODES = Path("manifests/seccomp/strict.json")
OBJECT = Path("manifests/seccomp/seccompprofile.json")


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 where --check finds a difference."""
    files = {PATH: docs.to_markdown(), NODES: kubelet.text(), OBJECT: kubelet.profile()}
    return generated.run(files, "claude_sandbox.seccomp.generate", "the declaration", arguments)


if __name__ == "__main__":
    sys.exit(main())
