"""The Strict seccomp filter on real engines: Claude Code and ordinary work go on in it, and what it refuses is refused.

Every refusal has a control: the same attempt in the same container under the engine's own filter.
"""

import json
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import linux_calls
import pytest
from docker.models.containers import Container
from dockerkit import Sandbox, process_of, sandbox
from enginekit import client, hardened

from claude_sandbox.api.conditions import ConditionStatus, Reason
from claude_sandbox.install.inside import run_inside
from claude_sandbox.localcluster.engine import EngineDescription
from claude_sandbox.seccomp.calls import NEW_NAMESPACES, REFUSED
from claude_sandbox.seccomp.profile import STRICT

pytestmark = pytest.mark.engine

INSIDE = Path(__file__).parents[1] / "inside"
SECURITY = {"seccompProfile": {"type": "Strict"}}
PARTS = ["git", "shell", "threads", "processes", "sockets", "terminals", "waiting", "signals", "files"]


def container_of(one: Sandbox) -> Container:
    return one.sdk.containers.get(one.names.container)


def python(container: Container, script: str, *arguments: str) -> str:
    """What a script of tests/docker/inside prints in the container."""
    api = container.client.api
    code, output = run_inside(api, container.id, "python3", "-c", (INSIDE / script).read_text(), *arguments)
    assert code == 0, output
    return output


def checked(inspected: dict[str, Any]) -> list[dict[str, Any]]:
    """The controls that `claude-sandbox check` reports of a saved document."""
    done = subprocess.run(
        [sys.executable, "-m", "claude_sandbox.cli.main", "check", "--inspect", "-", "-o", "json"],
        input=json.dumps([inspected]), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    (found,) = json.loads(done.stdout)
    return list(found["controls"])


def attempted(container: Container, attempts: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    found: dict[str, str] = json.loads(python(container, "attempts.py", json.dumps(attempts)))
    return found


async def test_a_strict_sandbox_is_ready_and_compliant_and_the_kernel_holds_its_filter(
    host: EngineDescription, image: dict[str, str]
) -> None:
    async with sandbox(host, image=image, security=SECURITY) as one:
        outcomes = await one.made()
        state = await one.started()
        assert (state.status, state.reason) == (ConditionStatus.TRUE, Reason.SANDBOX_READY), state
        assert not (await one.once()).wrote
        assert f"seccomp={STRICT}" in one.inspected["HostConfig"]["SecurityOpt"]
        status = (process_of(one) / "status").read_text()
        assert "Seccomp:\t2\n" in status
        _, compliant, _ = await one.backend.measure(one.blueprint, one.parsed, outcomes[-1])
        assert compliant[0] is ConditionStatus.TRUE, compliant
        (filtered,) = [control for control in checked(one.inspected) if control["id"] == "KERN-01"]
        assert (filtered["result"], filtered["evidence"]["value"]) == ("Pass", "Strict")
        assert one.sh("claude --version") == "2.1.331 (Claude Code)\n"


@pytest.mark.by_turns
async def test_ordinary_work_goes_on_in_it(host: EngineDescription, image: dict[str, str]) -> None:
    async with sandbox(host, image=image, security=SECURITY) as one:
        await one.made()
        assert python(container_of(one), "usual_work.py").split() == PARTS


@pytest.mark.by_turns
def test_claude_code_answers_and_uses_its_tools_in_it(host: EngineDescription, image: dict[str, str]) -> None:
    work = "git init -q /workspace/g && cd /workspace/g && python3 -c 'print(6 * 7)' > a && git add a && cat a"
    with client(host) as connected:
        container = hardened(
            connected, f"{image['repository']}:{image['tag']}", network_mode="none", read_only=True, mem_limit="2g",
            memswap_limit="2g", nano_cpus=2_000_000_000,
            security_opt=["no-new-privileges", f"seccomp={STRICT}"], entrypoint=["sleep", "infinity"],
            tmpfs=dict.fromkeys(("/home/claude", "/tmp", "/workspace", "/etc/claude-code"), "uid=1000,gid=1000,exec"),
            pids_limit=512,
        )  # fmt: skip
        try:
            said = python(container, "agent_at_work.py", work)
            assert "it said" in said
            assert "42" in said
        finally:
            container.remove(force=True)


_NONSENSE = [2**64 - 1] * 6
# Of nonsense, modify_ldt says that it is not implemented.
MEANT: Mapping[str, tuple[int, ...]] = {"modify_ldt": (0, 0, 0)}

LET_THROUGH = {
    *("adjtimex", "clock_adjtime", "io_cancel", "io_destroy", "io_getevents", "io_pgetevents", "io_setup", "io_submit"),
    *("memfd_secret", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedsend", "mq_unlink"),
    *("ptrace", "remap_file_pages", "vmsplice"),
    *(("modify_ldt",) if platform.machine() == "x86_64" else ()),
}
"""What both engines' own filters let through, at least, and a newer one's beside."""
LET_THROUGH_BY_NEWER = LET_THROUGH | {"name_to_handle_at", "process_vm_readv", "process_vm_writev"}

ROOTS_ALONE = {
    *("acct", "fsmount", "fsopen", "fspick", "move_mount", "open_by_handle_at", "pivot_root", "reboot"),
    *("setdomainname", "sethostname", "swapoff", "swapon", "syslog", "vhangup"),
}
"""What the kernel refuses who has no capability before it looks at anything else, so that a filter shows in nothing."""


async def test_every_call_is_refused_that_the_filter_is_to_refuse_and_by_nothing_else(
    host: EngineDescription, image: dict[str, str]
) -> None:
    numbers = linux_calls.numbers()
    answers = {call: one.answer.value for one in REFUSED for call in one.calls if call in numbers}
    attempts = {call: (numbers[call], *MEANT.get(call, _NONSENSE)) for call in answers}
    async with sandbox(host, image=image, security=SECURITY) as strict, sandbox(host, "bob", image=image) as default:
        for one in (strict, default):
            await one.made()
        refused, control = (attempted(container_of(one), attempts) for one in (strict, default))
    with client(host) as connected:
        unfiltered = hardened(
            connected, f"{image['repository']}:{image['tag']}", network_mode="none",
            security_opt=["no-new-privileges", "seccomp=unconfined"],
        )  # fmt: skip
        try:
            bare = attempted(unfiltered, attempts)
        finally:
            unfiltered.remove(force=True)
    # What libseccomp or the kernel is too old to know is not implemented, whatever was said.
    assert {call: told for call, told in refused.items() if told not in (answers[call], "ENOSYS")} == {}
    for call in ("ptrace", "mount", "unshare", "setns", "adjtimex"):
        assert refused[call] == "EPERM"
    let_through = {call for call, told in control.items() if told not in ("EPERM", "ENOSYS")}
    assert let_through >= (LET_THROUGH_BY_NEWER if host.release == "29" else LET_THROUGH)
    assert {call for call, told in bare.items() if told == refused[call] == "EPERM"} <= ROOTS_ALONE


CLONE_NEWUSER, SIGCHLD, STREAM, RAW = 0x10000000, 17, 1, 3
AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_TIPC = 1, 2, 10, 16, 30
NETLINK = {"route": 0, "diagnostics": 4, "xfrm": 6, "netfilter": 12, "uevent": 15, "generic": 16}


async def test_of_calls_that_are_allowed_in_part_only_that_part_is(
    host: EngineDescription, image: dict[str, str]
) -> None:
    number = linux_calls.numbers()
    sockets = {
        f"family {family}": (number["socket"], family, STREAM, 0) for family in range(46) if family != AF_NETLINK
    }
    netlink = {f"netlink {name}": (number["socket"], AF_NETLINK, RAW, protocol) for name, protocol in NETLINK.items()}
    personalities = {f"personality {value:x}": (number["personality"], value) for value in (0, 0xFFFFFFFF, 0x20000)}
    clones = {
        f"clone {bit}": (number["clone"], 1 << bit | SIGCHLD, 0, 0, 0, 0)
        for bit in range(64)
        if NEW_NAMESPACES & 1 << bit
    }
    tricks = {
        "a family with more bits than the kernel looks at": (number["socket"], 1 << 32 | AF_UNIX, STREAM, 0),
        "a pair of another family": (number["socketpair"], AF_TIPC, STREAM, 0, _NONSENSE[0]),
        "a new namespace with more bits": (number["clone"], 1 << 32 | CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0),
    }
    usual = {"a process": (number["clone"], SIGCHLD, 0, 0, 0, 0)}
    attempts = {**sockets, **netlink, **personalities, **clones, **tricks, **usual}
    async with sandbox(host, image=image, security=SECURITY) as strict, sandbox(host, "bob", image=image) as default:
        for one in (strict, default):
            await one.made()
        found, control = (attempted(container_of(one), attempts) for one in (strict, default))
    allowed = {name for name, answer in found.items() if answer.isdigit()}
    assert allowed == {
        *(f"family {family}" for family in (AF_UNIX, AF_INET, AF_INET6)),
        "netlink route", "personality 0", "personality ffffffff", "a process",
    }  # fmt: skip
    assert {answer for name, answer in found.items() if name not in allowed} == {"EPERM"}
    # The controls: for everybody else these are there, or would be if the kernel had them.
    assert {name for name in netlink if control[name].isdigit()} == set(netlink)
    assert {name for name in personalities if control[name].isdigit()} == set(personalities)
    assert control["a family with more bits than the kernel looks at"].isdigit() or host.release == "29"
    others = {name for name in sockets if name not in allowed and control[name] != "EPERM"}
    assert {f"family {family}" for family in (3, 9, 21, 29, 31, 35, 39)} <= others


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the instruction is one of x86")
async def test_a_call_by_the_way_in_for_32_bits_ends_the_process(
    host: EngineDescription, image: dict[str, str]
) -> None:
    # mov eax, 20 (getpid); int 0x80; ret
    script = (
        "import ctypes, mmap, os; page = mmap.mmap(-1, 4096, prot=7); page.write(bytes.fromhex('b814000000cd80c3'));"
        "call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)));"
        "print(call() == os.getpid())"
    )
    run = f'python3 -c "{script}"'
    async with sandbox(host, image=image, security=SECURITY) as strict, sandbox(host, "bob", image=image) as default:
        for one in (strict, default):
            await one.made()
        if default.sh(run) != "True\n":
            pytest.skip("this kernel carries out no calls for 32 bits")
        assert "Bad system call" in strict.sh(f"bash -c '{run}' 2>&1; true") or "159" in strict.sh(f"{run}; echo $?")


def failing(message: str) -> set[str]:
    """The controls that Compliant's message names."""
    return set(re.findall(r"[A-Z]+-\d\d", message))


@pytest.mark.by_turns
async def test_a_changed_filter_is_told_of_or_carried_out_as_the_update_strategy_says(host: EngineDescription) -> None:
    async with sandbox(host) as one:
        await one.made()
        one.sh("echo mine > /workspace/file")
        before = one.inspected["Id"]
        for wanted, options in (("Strict", [f"seccomp={STRICT}"]), ("RuntimeDefault", [])):
            one.spec["security"] = {"seccompProfile": {"type": wanted}}
            one.spec["updateStrategy"] = {"type": "OnDelete"}
            told = (await one.settled())[-1]
            assert told.spec_changed
            assert one.inspected["Id"] == before
            # One of an earlier spec fails OPS-03, and where it lacks what is asked for now, that control as well.
            _, compliant, _ = await one.backend.measure(one.blueprint, one.parsed, told)
            assert compliant[0] is ConditionStatus.FALSE
            assert failing(compliant[2]) == ({"KERN-01", "OPS-03"} if wanted == "Strict" else {"OPS-03"}), compliant
            one.spec["updateStrategy"] = {"type": "Recreate"}
            await one.settled()
            assert one.inspected["Id"] != before
            assert one.inspected["HostConfig"]["SecurityOpt"] == ["no-new-privileges:true", *options]
            assert one.sh("cat /workspace/file") == "mine\n"
            # With the new container everything passes again.
            await one.started()
            _, compliant, _ = await one.backend.measure(one.blueprint, one.parsed, await one.once())
            assert compliant[0] is ConditionStatus.TRUE, compliant
            before = one.inspected["Id"]
