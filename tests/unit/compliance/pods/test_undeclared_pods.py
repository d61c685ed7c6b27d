"""A pod that no ClaudeSandbox declares: each control that compares with a declaration says what it does then."""

from dataclasses import replace
from typing import Any

import pytest
from compliant_sandbox import World, changed

from claude_sandbox.compliance.catalogue import POD_CONTROLS, undeclared_pod_controls
from claude_sandbox.compliance.control import Control, Evidence, PodCheck, Undeclared
from claude_sandbox.compliance.evidence.pods import Expected
from claude_sandbox.compliance.pods.undeclared import Declarations
from claude_sandbox.compliance.pods.view import View
from claude_sandbox.compliance.verdict import Verdict, failed, passed

NOBODYS = frozenset({"profile", "allowed_registries", "plain_images"})
"""What is expected of a pod whoever declares it: who runs the operator, or asks, says so."""
CHECKS = tuple((one, one.pod) for one in POD_CONTROLS if isinstance(one.pod, PodCheck))


class Recording(Expected):
    """What is expected, and which of it was asked for."""

    def __getattribute__(self, name: str) -> Any:
        if name in Expected.__dataclass_fields__:
            asked.add(name)
        return super().__getattribute__(name)


asked: set[str] = set()


def _asked_of(check: PodCheck, world: World) -> set[str]:
    fields = {name: getattr(world.expected, name) for name in Expected.__dataclass_fields__}
    evidence = replace(world.evidence(), expected=Recording(**fields))
    asked.clear()
    check.judge(View(evidence))
    return asked - NOBODYS


def _worlds() -> list[World]:
    """One as it should be, and some in which there is more to compare."""
    return [
        changed(),
        changed(lambda world: world.spec.update(ephemeralContainers=[{"name": "debug", "image": "debug"}])),
        changed(lambda world: world.add_volume(secret={"secretName": "other"}), lambda world: world.mount()),
        changed(lambda world: world.add_policy(egress=[{}], ingress=[{}])),
        changed(lambda world: world.services.append({"metadata": {"name": "other"}, "spec": {}})),
    ]


@pytest.mark.parametrize(("control", "check"), CHECKS, ids=[control.id for control, _ in CHECKS])
def test_who_compares_with_a_declaration_says_what_holds_without_one(control: Control, check: PodCheck) -> None:
    compares = {name for world in _worlds() for name in _asked_of(check, world)}
    if Evidence.DRIFT in check.needs:
        # Nothing can differ from what nobody declared: to need that would make it Unknown for ever.
        assert check.undeclared is not None, control.id
        assert Evidence.DRIFT not in (check.undeclared.needs or ()), control.id
        assert check.undeclared.needs is not None, control.id
    assert check.undeclared is not None or not compares, (
        f"{control.id} asks for {', '.join(sorted(compares))}: say in its entry how a pod is judged that no"
        " ClaudeSandbox declares (undeclared=Undeclared(…), or AS_FOR_A_SANDBOX)"
    )


def test_what_an_entry_leaves_out_is_as_for_a_sandbox() -> None:
    view = View(changed().evidence())
    as_sandbox = PodCheck(lambda _: failed("as a sandbox"), "as a sandbox", needs=(Evidence.POD, Evidence.DRIFT))
    same = as_sandbox.without_sandbox(Declarations())
    assert (same.judge(view), same.remedy, same.needs) == (failed("as a sandbox"), "as a sandbox", as_sandbox.needs)

    def judge(_: View, declared: Declarations) -> Verdict:
        return passed(", ".join(declared.secrets))

    other = replace(as_sandbox, undeclared=Undeclared(judge, "another", needs=(Evidence.POD,)))
    told = other.without_sandbox(Declarations(secrets=frozenset({"mine"})))
    assert (told.judge(view), told.remedy, told.needs) == (passed("mine"), "another", (Evidence.POD,))


def test_a_pod_without_a_sandbox_is_judged_by_all_controls_of_pods() -> None:
    found = undeclared_pod_controls(Declarations())
    assert [(one.id, one.severity, one.required) for one in found] == [
        (one.id, one.severity, one.required) for one in POD_CONTROLS
    ]
