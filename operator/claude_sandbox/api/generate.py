"""Writes what is generated from the models, or with --check compares it: `python -m claude_sandbox.api.generate`."""

import sys
from collections.abc import Mapping
from pathlib import Path

from claude_sandbox import generated
from claude_sandbox.api.crds import definitions as crd
from claude_sandbox.api.crds import docs


def files() -> Mapping[Path, str]:
    """What is generated, below the project's directory."""
    definitions = {Path("crds") / kind.file: crd.to_yaml(kind) for kind in crd.KINDS}
    pages = {Path("docs/reference") / docs.file_of(kind): docs.to_markdown(kind) for kind in crd.KINDS}
    return definitions | pages


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 where --check finds a difference."""
    return generated.run(files(), "claude_sandbox.api.generate", "the models", arguments)


if __name__ == "__main__":
    sys.exit(main())
