"""Writes docs/guide.md from what tests saw, or with --check compares it.

`python -m tests.guide.page REPORT...` reads JUnit reports of runs (`make test ARGS=--junitxml=REPORT`), notes in
results.json how many tests of each line passed, and writes the page. A line that claims something is only written when
each test that it names was seen to pass, and none to fail. Without a report the page is written from what was noted.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.etree import ElementTree

from tests.guide.lines import SECTIONS, Done, Line

PAGE = Path("docs/guide.md")
RESULTS = Path(__file__).with_name("results.json")

_INTRODUCTION = """\
# The security guide, line by line

<!-- Written by `python -m tests.guide.page`. Change tests/guide/lines.py instead. -->

This project began with a guide of what to set up, to watch and to do by hand for one container of `docker compose`.
Here is each of its lines, what became of it, the command that shows it, and how many tests saw it in a whole run
on real clusters and engines. Where the product does something otherwise, the guide's way was weaker.
"""


def seen(reports: Iterable[Path]) -> dict[str, int]:
    """By each place that the lines name: how many of its tests passed, as the last report that has a test says.

    Raises ValueError where one failed.
    """
    cases: dict[str, ElementTree.Element] = {}
    for report in reports:
        for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - a file of our own
            # pytest-xdist writes the group behind the name.
            name = case.get("name", "").partition("@")[0]
            cases[f"{case.get('classname', '').removeprefix('tests.').replace('.', '/')}.py::{name}"] = case
    passed: Counter[str] = Counter()
    wanted = references()
    for name, case in cases.items():
        of = [one for one in wanted if name.startswith(one)]
        if of and (case.find("failure") is not None or case.find("error") is not None):
            raise ValueError(f"{name} failed")
        if case.find("skipped") is None:
            passed.update(of)
    return {one: passed[one] for one in wanted}


def references() -> list[str]:
    """What the lines name, each once."""
    return sorted({test for _, lines in SECTIONS for line in lines for test in line.tests})


def to_markdown(counts: dict[str, int]) -> str:
    """The page. Raises ValueError where a line claims what no test has seen."""
    return "\n".join(_lines(counts)) + "\n"


def _lines(counts: dict[str, int]) -> Iterator[str]:
    yield _INTRODUCTION
    for title, lines in SECTIONS:
        yield f"## {title}\n"
        yield "| The guide | | Here | To see it | Tests |"
        yield "|---|---|---|---|---|"
        for line in lines:
            command = f"`{line.command}`" if line.command else ""
            yield f"| {line.said} | {line.done} | {line.how} | {command} | {_tests(line, counts)} |"
        yield ""


def _tests(line: Line, counts: dict[str, int]) -> str:
    if unseen := [one for one in line.tests if not counts.get(one)]:
        raise ValueError(f"{line.said!r} rests on what no test has seen to pass: {', '.join(unseen)}")
    if not line.tests and line.done is not Done.LEFT:
        raise ValueError(f"{line.said!r} names no test")
    return str(sum(counts[one] for one in line.tests)) if line.tests else ""


def main(arguments: list[str]) -> int:
    """The exit code."""
    if arguments == ["--check"]:
        if PAGE.read_text() != to_markdown(json.loads(RESULTS.read_text())):
            print(f"{PAGE} is not what python -m tests.guide.page writes", file=sys.stderr)
            return 1
        return 0
    counts = seen(Path(one) for one in arguments) if arguments else json.loads(RESULTS.read_text())
    text = to_markdown(counts)
    RESULTS.write_text(json.dumps(counts, indent=1) + "\n")
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
