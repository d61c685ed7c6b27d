"""Writes the page of the catalogue, or with --check compares it: `python -m claude_sandbox.compliance.generate`."""

import sys
from pathlib import Path

from claude_sandbox import generated
from claude_sandbox.compliance import docs

PATH = Path("docs/reference") / docs.FILE


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 where --check finds a difference."""
    return generated.run({PATH: docs.to_markdown()}, "claude_sandbox.compliance.generate", "the catalogue", arguments)


if __name__ == "__main__":
    sys.exit(main())
