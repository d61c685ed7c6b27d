"""Which values of a spec show a credential by signs for which the schema has no room. Pure.

The API server refuses the common ones by the CRD. The rest was measured on what runs only, where it had been in an
object, in etcd and in a process by then. A sign can be wrong, so an exception from the control lets the spec pass: it
has a reason, an owner and a day.
"""

from collections.abc import Iterator

from claude_sandbox.api.credentials import leaks, measured
from claude_sandbox.api.spec import ClaudeSandboxSpec

CONTROL = "SEC-01"


def refused_credentials(spec: ClaudeSandboxSpec) -> Iterator[tuple[str, str]]:
    """The fields that show one, and why and what to do instead; never the value."""
    if any(exception.control == CONTROL for exception in spec.compliance.exceptions):
        return
    for index, variable in enumerate(spec.env):
        if measured.variable_holds_credential(variable.name, variable.value):
            yield f"spec.env[{index}]", _WHY.format("looks like a credential, by its name or its value")
    if measured.command_line_holds_credential((*spec.command, *spec.args)):
        field = "args" if spec.args else "command"
        yield f"spec.{field}", _WHY.format("has what looks like a credential in it")


_WHY = f"{{}}: {leaks.REMEDY}; if it is none, an exception from {CONTROL} in spec.compliance.exceptions says so"
