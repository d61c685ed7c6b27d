"""What the suite found, as the committed results.json has it."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "results.json"

ENFORCED = "enforced"
UNAVAILABLE = "not available"


class CanNotError(AssertionError):
    """What the scenario is about is not there; a failure, unless the backend is said not to have it."""


@dataclass
class Results:
    """Of each backend: what it calls itself, each scenario's result, and the controls that pass."""

    titles: dict[str, str] = field(default_factory=dict)
    scenarios: dict[str, dict[str, str]] = field(default_factory=dict)
    passed: dict[str, list[str]] = field(default_factory=dict)

    def note(self, backend: str, scenario: str, result: str) -> None:
        self.scenarios.setdefault(backend, {})[scenario] = result

    def of(self, backend: str) -> dict[str, Any]:
        """All that was found on one backend."""
        return {
            "title": self.titles.get(backend, ""),
            "scenarios": self.scenarios.get(backend, {}),
            "passed": self.passed.get(backend, []),
        }


def read() -> dict[str, Any]:
    """The committed results, by backend; empty where there are none."""
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}
    return found


def write(results: Results, scenarios: set[str]) -> None:
    """Replace what is committed of the backends on which all scenarios were run, and of them only."""
    whole = [backend for backend, ran in results.scenarios.items() if set(ran) == scenarios]
    found = read() | {backend: results.of(backend) for backend in whole}
    FILE.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n", encoding="utf-8")
