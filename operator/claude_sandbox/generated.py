"""Files that are generated and committed: written, or with --check compared."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


def run(
    files: Mapping[Path, str],
    module: str,
    of: str,
    arguments: Sequence[str] | None = None,
    strangers: Callable[[Path], Sequence[Path]] = lambda _: (),
) -> int:
    """The command `python -m MODULE [--check] [DIRECTORY]`. The exit code is 1 where --check finds a difference.

    `files` has contents by paths below the project's directory; `of` is what they are generated from;
    `strangers` tells which files below that directory an earlier state has left, which are removed.
    """
    command = f"python -m {module}"
    parser = argparse.ArgumentParser(prog=command, description=f"Write what is generated from {of}.")
    parser.add_argument("--check", action="store_true", help="change nothing, fail where a file differs")
    parser.add_argument("directory", nargs="?", type=Path, default=Path(), help="the project's directory")
    options = parser.parse_args(arguments)
    stale = [path for path, content in files.items() if not _is_written(options.directory / path, content)]
    for path in stale:
        if options.check:
            print(f"{path} differs from {of}", file=sys.stderr)
            continue
        target = options.directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(files[path], encoding="utf-8")
        print(f"wrote {path}")
    left = strangers(options.directory)
    for path in left:
        if options.check:
            print(f"{path} is of something that is gone", file=sys.stderr)
            continue
        path.unlink()
        print(f"removed {path}")
    if options.check and (stale or left):
        print(f"Run `{command}` and commit the result.", file=sys.stderr)
        return 1
    return 0


def _is_written(path: Path, content: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == content
