"""A filter of system calls that is there and stops next to nothing, or of which nobody knows what it stops.

A profile that let every call pass but one was measured as a filter, since only those that let all pass failed; and the
default of an engine other than dockerd was taken for dockerd's. A profile is now judged by whether what Docker's own
stops can be called, and the default of an engine whose default is its own choice is Unknown until the engine tells.
"""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from compliant_container import World, changed
from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.api.status import Result
from claude_sandbox.compliance.containers.seccomp_filters import DANGEROUS, WORST
from claude_sandbox.seccomp.profile import STRICT

ALL, ERRNO = sorted(DANGEROUS), "SCMP_ACT_ERRNO"
ALLOW, KILL = "SCMP_ACT_ALLOW", "SCMP_ACT_KILL_PROCESS"


def rule(action: str, names: Sequence[str], **more: Any) -> dict[str, Any]:
    return {"names": list(names), "action": action} | more


def measured(default: str, *rules: dict[str, Any], **more: Any) -> Result:
    return judged(json.dumps({"defaultAction": default, "syscalls": list(rules)} | more))


def judged(profile: str) -> Result:
    return changed(lambda world: world.host["SecurityOpt"].append(f"seccomp={profile}")).results()["KERN-01"]


ALWAYS = {"index": 0, "value": 0, "op": "SCMP_CMP_GE"}
WEAK = {
    "nothing is denied": (ALLOW,),
    "one call is denied": (ALLOW, rule(ERRNO, ["acct"])),
    "a few are denied": (ALLOW, rule(ERRNO, ["mount", "reboot", "swapon", "acct"])),
    "all are logged": ("SCMP_ACT_LOG", rule(ERRNO, ["acct"])),
    "all are traced": ("SCMP_ACT_TRACE",),
    "all are told to somebody": ("SCMP_ACT_NOTIFY",),
    "all that is dangerous is allowed": (ERRNO, rule(ALLOW, ALL)),
    "it is logged": (ERRNO, rule("SCMP_ACT_LOG", ALL)),
    "it is traced": (ERRNO, rule("SCMP_ACT_TRACE", ALL)),
    "it is told to somebody": (ERRNO, rule("SCMP_ACT_NOTIFY", ALL)),
    "it is allowed under a condition that always holds": (ERRNO, rule(ALLOW, ALL, args=[ALWAYS])),
    "it is denied under a condition": (ALLOW, rule(ERRNO, ALL, args=[{"index": 0, "value": 7, "op": "SCMP_CMP_EQ"}])),
    "it is denied on one architecture": (ALLOW, rule(ERRNO, ALL, includes={"arches": ["s390x"]})),
    "it is denied but not here": (ALLOW, rule(ERRNO, ALL, excludes={"arches": ["amd64"]})),
    "it is denied to whoever has a capability": (ALLOW, rule(ERRNO, ALL, includes={"caps": ["CAP_SYS_ADMIN"]})),
    "it is allowed to whoever has none": (ERRNO, rule(ALLOW, ALL, excludes={"caps": ["CAP_SYS_ADMIN"]})),
    "each by a rule of its own, as it was written once": (ERRNO, *({"name": one, "action": ALLOW} for one in ALL)),
    "the new way to mount": (ERRNO, rule(ALLOW, ["fsopen", "fsconfig", "fsmount", "move_mount"])),
    "an action that is none": ("SCMP_ACT_DENY",),
}


@pytest.mark.parametrize("name", WEAK)
def test_a_filter_that_lets_nearly_everything_pass_is_none(name: str) -> None:
    assert measured(*WEAK[name]) is Result.FAIL


@pytest.mark.parametrize("call", sorted(WORST))
@pytest.mark.parametrize("action", [ALLOW, "SCMP_ACT_LOG"])
def test_nor_is_one_that_lets_the_worst_pass(call: str, action: str) -> None:
    assert measured(ERRNO, rule(ALLOW, ["read"]), rule(action, ["write", call])) is Result.FAIL


IN_ANOTHER_CASE = {
    "a default beside another": '{"defaultAction":"SCMP_ACT_ERRNO","defaultaction":"SCMP_ACT_ALLOW"}',
    "rules": '{"defaultAction":"SCMP_ACT_ERRNO","Syscalls":[{"names":["mount"],"action":"SCMP_ACT_ALLOW"}]}',
    "names and action": '{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"Names":["mount"],"ACTION":"SCMP_ACT_ALLOW"}]}',
}


@pytest.mark.parametrize("name", IN_ANOTHER_CASE)
def test_the_fields_of_a_filter_have_no_case_for_an_engine(name: str) -> None:
    assert judged(IN_ANOTHER_CASE[name]) is Result.FAIL


def test_nor_has_a_condition_on_who_a_rule_is_for() -> None:
    assert (
        measured(ERRNO, {"Names": ["mount"], "Action": ALLOW, "Includes": {"Caps": ["CAP_SYS_ADMIN"]}}) is Result.PASS
    )


NO_NAMESPACE = {"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}


@pytest.mark.parametrize(
    ("call", "condition", "result"),
    [
        ("unshare", NO_NAMESPACE, Result.PASS),
        ("unshare", NO_NAMESPACE | {"value": 0x10000000}, Result.FAIL),
        ("unshare", NO_NAMESPACE | {"valueTwo": 0x10000000}, Result.FAIL),
        ("unshare", NO_NAMESPACE | {"index": 1}, Result.FAIL),
        ("mount", NO_NAMESPACE, Result.FAIL),
    ],
)
def test_a_condition_counts_that_leaves_out_all_namespaces(
    call: str, condition: dict[str, Any], result: Result
) -> None:
    assert measured(ERRNO, rule(ALLOW, [call], args=[condition])) is result


def test_a_rule_with_an_action_that_no_engine_knows_is_no_filter() -> None:
    assert measured(ERRNO, rule("scmp_act_allow", ["mount"])) is Result.FAIL


SOUND = {
    "everything is denied": (ERRNO,),
    "everything kills": (KILL,),
    "the ordinary is allowed": (ERRNO, rule(ALLOW, ["read", "write", "execve", "openat", "clone", "socket", "ptrace"])),
    "what is dangerous is denied": (ALLOW, rule(ERRNO, ALL)),
    "it kills": (ALLOW, rule(KILL, ALL)),
    "namespaces of users are denied": (
        ALLOW,
        rule(ERRNO, sorted(DANGEROUS - {"unshare"})),
        rule(
            ERRNO,
            ["unshare"],
            args=[{"index": 0, "value": 0x10000000, "valueTwo": 0x10000000, "op": "SCMP_CMP_MASKED_EQ"}],
        ),
    ),
    "it is for who has the capability, as Docker's own": (
        ERRNO,
        rule(ALLOW, ["read"]),
        rule(ALLOW, ALL, includes={"caps": ["CAP_SYS_ADMIN"]}),
    ),
    "keys are allowed": (ERRNO, rule(ALLOW, ["keyctl", "add_key"])),
    "a condition on something harmless": (ERRNO, rule(ALLOW, ["personality"], args=[ALWAYS])),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_filter_that_stops_what_is_dangerous_passes(name: str) -> None:
    assert measured(*SOUND[name]) is Result.PASS
    assert judged(STRICT) is Result.PASS


@given(st.data())
def test_whichever_way_the_worst_is_let_through_it_is_found(data: st.DataObject) -> None:
    call = data.draw(st.sampled_from(sorted(WORST)))
    harmless = data.draw(st.lists(st.sampled_from(["read", "write", "futex"]), max_size=3))
    let = data.draw(st.sampled_from([ALLOW, "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_NOTIFY"]))
    rules = [rule(ERRNO, sorted(DANGEROUS - {call})), rule(let, [*harmless, call])]
    default = data.draw(st.sampled_from([ERRNO, KILL, ALLOW]))
    assert measured(default, *data.draw(st.permutations(rules))) is Result.FAIL


@pytest.mark.parametrize("text", ["[]", '"x"', "7", "null", '{"syscalls":[]}', '{"defaultAction":7}', '{"a":{'])
def test_what_is_no_filter_never_passes(text: str) -> None:
    assert judged(text) is not Result.PASS


def of_desktop(label: str) -> World:
    return changed(lambda world: world.config["Labels"].update({label: "v2"}))


@pytest.mark.parametrize("label", ["desktop.docker.io/ports.scheme", "desktop.docker.io/wsl-distro"])
def test_the_default_of_docker_desktop_is_not_known(label: str) -> None:
    world = of_desktop(label)
    assert world.results()["KERN-01"] is Result.UNKNOWN
    # Unless the engine or the document tells.
    world.default_seccomp = "builtin"
    assert world.results()["KERN-01"] is Result.PASS
    world.default_seccomp = "unconfined"
    assert world.results()["KERN-01"] is Result.FAIL
    world = of_desktop(label)
    world.host["SecurityOpt"].append(f"seccomp={STRICT}")
    assert world.results()["KERN-01"] is Result.PASS


def test_a_path_of_docker_desktop_s_machine_tells_it_too() -> None:
    for source in ("/host_mnt/Users/me/x", "/run/desktop/mnt/host/c/x", "/run/host-services/x.sock"):
        assert changed(lambda world, at=source: world.bind(at, "/x")).results()["KERN-01"] is Result.UNKNOWN
    assert changed(lambda world: world.bind("/srv/x", "/x")).results()["KERN-01"] is Result.PASS
