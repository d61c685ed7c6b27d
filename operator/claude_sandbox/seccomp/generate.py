"""Writes the page of the Strict filter, or with --check compares it: `python -m claude_sandbox.seccomp.generate`."""

import argparse
import sys
from pathlib import Path

from claude_sandbox.seccomp import docs

PATH = Path("docs/reference") / docs.FILE


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 where --check finds a difference."""
    parser = argparse.ArgumentParser(prog="python -m claude_sandbox.seccomp.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail where the file differs")
    parser.add_argument("directory", nargs="?", type=Path, default=Path(), help="the project's directory")
    options = parser.parse_args(arguments)
    target, content = options.directory / PATH, docs.to_markdown()
    if target.is_file() and target.read_text(encoding="utf-8") == content:
        return 0
    if options.check:
        print(f"{PATH} differs from the declaration", file=sys.stderr)
        print("Run `python -m claude_sandbox.seccomp.generate` and commit the result.", file=sys.stderr)
        return 1
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(content, encoding="utf-8")
    print(f"wrote {PATH}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
