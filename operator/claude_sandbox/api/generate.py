"""Writes what is generated from the models, or with --check compares it: `python -m claude_sandbox.api.generate`."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from claude_sandbox.api import crd, docs


def files() -> Mapping[Path, str]:
    """What is generated, below the project's directory."""
    definitions = {Path("crds") / kind.file: crd.to_yaml(kind) for kind in crd.KINDS}
    pages = {Path("docs/reference") / docs.file_of(kind): docs.to_markdown(kind) for kind in crd.KINDS}
    return definitions | pages


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 where --check finds a difference."""
    parser = argparse.ArgumentParser(prog="python -m claude_sandbox.api.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail where a file differs")
    parser.add_argument("directory", nargs="?", type=Path, default=Path(), help="the project's directory")
    options = parser.parse_args(arguments)
    stale = []
    for path, content in files().items():
        target = options.directory / path
        if target.is_file() and target.read_text(encoding="utf-8") == content:
            continue
        stale.append(path)
        if not options.check:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content, encoding="utf-8")
    for path in stale:
        print(f"{path} differs from the models" if options.check else f"wrote {path}")
    if options.check and stale:
        print("Run `python -m claude_sandbox.api.generate` and commit the result.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
