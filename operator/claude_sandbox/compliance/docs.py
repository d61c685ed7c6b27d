"""The catalogue as a page for people. What is said of a control by itself is in `pages`."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from claude_sandbox.compliance.catalogue import CONTROLS
from claude_sandbox.compliance.control import Control
from claude_sandbox.compliance.docker_hosts import controls as docker_hosts
from claude_sandbox.compliance.pages import LEVELS, family_of, file_of, required
from claude_sandbox.compliance.pods.pod_security import NEWEST_MINOR

FILE = "controls.md"

_INTRODUCTION = f"""\
# Controls

<!-- Written by `python -m claude_sandbox.compliance.generate`. Change the catalogue, not this file. -->

What is measured of each sandbox, from what runs now and not from what was asked for. The results are in
`status.compliance`, and the condition `Compliant` follows from them. `claude-sandbox check` measures any other pod or
Docker container by the same controls ([how](../check.md)). Each has a page of its own: what it means and why, how it
is measured on each backend, how it is seen to fail, how to mend it, and who else asks for it.

| result | meaning |
|---|---|
| `Pass` | it was read, it is fresh, and it is as it should be |
| `Fail` | it was read, and it is not; the message says what, the remedy what to do |
| `Unknown` | it could not be read, or is too old, or can't be told from what is read: never taken for a pass |
| `NotApplicable` | there is nothing to judge |

`Compliant` is `True` only when every required control passes or does not apply, `False` when one fails, and `Unknown`
when none fails and one is `Unknown`. A control that is required only in Production is measured and reported in
Development too. Init, main and ephemeral containers are judged alike.

A sandbox's `spec.compliance.level` says up to which level controls are required: by default `Sandbox`. All are measured
and reported at every level, and what is enforced is the same; only what `Compliant` asks for differs, and its message
names a level that isn't the default. Each level has what the one before has. Profile Production refuses levels below
Sandbox. The profile is another thing: it chooses defaults, and what is refused.

Controls that the Pod Security Standards define are decided as the API server's own admission decides them, in the
version of the API server (known up to 1.{NEWEST_MINOR}). Where a user namespace excuses a pod from a check (since
1.35), the control does not: the user namespace is a control of its own.

Levels:
"""


def to_markdown() -> str:
    """docs/reference/controls.md."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield _INTRODUCTION
    for level, meaning in LEVELS.items():
        yield f"- **{level.value}**: {meaning}."
    for family, controls in groupby(CONTROLS, key=family_of):
        yield f"\n## {family.title}"
        yield from _table(controls)
    yield "\n## Docker hosts"
    yield (
        "\nOf each DockerHost, from what its engine says of itself; the results are in the DockerHost's own"
        " `status.compliance`."
    )
    yield from _table(docker_hosts.CONTROLS)


def _table(controls: Iterable[Control]) -> Iterator[str]:
    yield "\n| control | what it means | severity | level | required | of |\n|---|---|---|---|---|---|"
    for one in controls:
        named = f"[{one.id}]({file_of(one)}) {one.title}"
        sides = {"pods": one.pod, "containers": one.container, "hosts": one.host}
        there = {name: check for name, check in sides.items() if check is not None}
        asked = " or ".join(dict.fromkeys(required(one, check) for check in there.values()))
        yield f"| {named} | {one.meaning} | {one.severity.value} | {one.level.value} | {asked} | {', '.join(there)} |"
