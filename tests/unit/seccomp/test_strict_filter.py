"""The Strict filter decides every call of Linux once, its document says the same, and nothing else passes for it."""

import copy
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import linux_calls
import pytest
from repository import ROOT

from claude_sandbox.seccomp.calls import ALLOWED, CONDITIONAL, NEW_NAMESPACES, REFUSED
from claude_sandbox.seccomp.generate import NODES, OBJECT, PATH, main
from claude_sandbox.seccomp.kubelet import profile, text
from claude_sandbox.seccomp.profile import STRICT, document, is_strict

ALLOW, ERRNO = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"


def rules(action: str) -> list[dict[str, Any]]:
    return [rule for rule in document()["syscalls"] if rule["action"] == action]


def test_every_call_of_linux_is_in_one_place_of_the_declaration_and_no_name_is_misspelt() -> None:
    declared = Counter(
        [
            *(call for calls in ALLOWED.values() for call in calls),
            *{condition.call for condition in CONDITIONAL},
            *(call for one in REFUSED for call in one.calls),
        ]
    )
    assert {call for call, times in declared.items() if times > 1} == set()
    assert declared.keys() == linux_calls.NAMES


def test_what_is_refused_is_in_no_rule_that_allows() -> None:
    allowed = {name for rule in rules(ALLOW) for name in rule["names"]}
    assert allowed & {call for one in REFUSED for call in one.calls} == set()
    assert document()["defaultAction"] == ERRNO
    assert {rule["errnoRet"] for rule in rules(ERRNO)} == {38}


def test_what_depends_on_arguments_is_never_allowed_without() -> None:
    by_call: dict[str, list[Any]] = {}
    for rule in rules(ALLOW):
        for name in rule["names"]:
            by_call.setdefault(name, []).append(rule.get("args"))
    assert {name for name, args in by_call.items() if any(args)} == {"clone", "personality", "socket", "socketpair"}
    for name in ("clone", "personality", "socket", "socketpair"):
        assert all(by_call[name])
    # Seven namespaces: mount, cgroup, UTS, IPC, user, PID and network.
    assert by_call["clone"] == [[{"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": NEW_NAMESPACES, "valueTwo": 0}]]
    assert NEW_NAMESPACES.bit_count() == 7


def test_programs_for_another_architecture_have_no_way_in() -> None:
    assert all(one["subArchitectures"] == [] for one in document()["archMap"])


def without_ptrace_refused(found: dict[str, Any]) -> None:
    found["syscalls"][0]["names"].append("ptrace")


def with_every_socket(found: dict[str, Any]) -> None:
    found["syscalls"].append({"names": ["socket"], "action": ALLOW})


def allowing_by_default(found: dict[str, Any]) -> None:
    found["defaultAction"] = ALLOW


def with_every_clone(found: dict[str, Any]) -> None:
    del next(rule for rule in found["syscalls"] if rule["names"] == ["clone"])["args"]


def for_32_bits_too(found: dict[str, Any]) -> None:
    found["archMap"][0]["subArchitectures"] = ["SCMP_ARCH_X86"]


@pytest.mark.parametrize(
    "loosen", [without_ptrace_refused, with_every_socket, allowing_by_default, with_every_clone, for_32_bits_too]
)
def test_a_loosened_one_is_not_taken_for_it(loosen: Callable[[dict[str, Any]], None]) -> None:
    found = copy.deepcopy(document())
    assert is_strict(json.dumps(found, indent=2))
    loosen(found)
    assert not is_strict(json.dumps(found))


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "[" * 100_000, STRICT[:-1]])
def test_what_is_no_profile_is_not_taken_for_it(text: str) -> None:
    assert not is_strict(text)


# What a runtime reads of a file (opencontainers/runtime-spec, specs-go: LinuxSeccomp, LinuxSyscall, LinuxSeccompArg).
OCI = {
    "": {"defaultAction", "architectures", "syscalls"},
    "syscalls": {"names", "action", "errnoRet", "args"},
    "args": {"index", "value", "valueTwo", "op"},
}


def test_the_file_for_nodes_says_the_same_in_words_that_a_runtime_reads() -> None:
    """A word that it doesn't know it passes over, and with it what the word was to keep out."""
    found = json.loads(text())
    assert found.keys() == OCI[""]
    assert found["architectures"] == [one["architecture"] for one in document()["archMap"]]
    for rule, meant in zip(found["syscalls"], document()["syscalls"], strict=True):
        assert rule == {key: value for key, value in meant.items() if key != "includes"}
        assert rule.keys() <= OCI["syscalls"]
        assert all(one.keys() <= OCI["args"] for one in rule.get("args") or ())
        # Nothing else of what Docker's form can say is lost on the way.
        assert meant.keys() - rule.keys() <= {"includes"}
    assert found["defaultAction"] == document()["defaultAction"]


ACTIONS = {"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"}
OPERATORS = {"SCMP_CMP_EQ", "SCMP_CMP_MASKED_EQ"}


def test_the_object_that_brings_it_to_nodes_has_the_same_and_only_what_its_api_takes() -> None:
    """By the types of the Security Profiles Operator 1.0 (api/seccompprofile/v1): lists without repetition, numbers as
    numbers, each within its bounds, and no key that they don't have."""
    told = json.loads(profile())
    assert told["apiVersion"] == "security-profiles-operator.x-k8s.io/v1"
    assert "namespace" not in told["metadata"], "it is of the cluster"
    assert told["spec"] == json.loads((ROOT / NODES).read_text()) == json.loads((ROOT / OBJECT).read_text())["spec"]
    assert told["spec"].keys() == {"defaultAction", "architectures", "syscalls"}
    assert {told["spec"]["defaultAction"], *(one["action"] for one in told["spec"]["syscalls"])} == ACTIONS
    for rule in told["spec"]["syscalls"]:
        assert rule.keys() <= {"names", "action", "errnoRet", "args"}
        assert len(set(rule["names"])) == len(rule["names"]) > 0
        # 0 is left out there, and a runtime then says EPERM.
        assert type(rule.get("errnoRet", 1)) is int
        assert 0 < rule.get("errnoRet", 1) <= 4095
        assert len(rule.get("args", ())) <= 6
        for argument in rule.get("args", ()):
            assert argument.keys() <= {"index", "value", "valueTwo", "op"}
            assert argument["op"] in OPERATORS
            assert 0 <= argument["index"] <= 5
            assert all(0 <= argument.get(key, 0) < 1 << 63 for key in ("value", "valueTwo"))


def test_the_page_in_the_repository_is_up_to_date(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", str(ROOT)]) == 0
    assert main(["--check", str(tmp_path)]) == 1
    assert "differs from the declaration" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 0
    assert (tmp_path / NODES).read_text(encoding="utf-8") == text()
    page = (tmp_path / PATH).read_text(encoding="utf-8")
    assert all(f"`{call}`" in page for call in linux_calls.NAMES)
