"""What the kernel lets a process do: seen where it may, told apart from where it may not, and without a trace."""

import ctypes
import errno
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import linux_calls
import pytest

from claude_sandbox.probe import strict, trying
from claude_sandbox.probe.kernel import ATTEMPTS
from claude_sandbox.probe.outcomes import Code, ending
from claude_sandbox.probe.trying import Call, May

ROOM = Path(__file__).parents[3] / "operator"
_PR_SET_NO_NEW_PRIVS = 38
UNCONFINED = {
    "unshare of users", "unshare of mounts", "setns", "mount", "mknod", "keyctl", "bpf", "io_uring_setup",
    "perf_event_open", "userfaultfd", "syslog", "raw socket", "packet socket", "memory of others", "setuid programs",
    "kernel settings", "files of the image",
}  # fmt: skip
"""Possible for root of a host whatever its kernel is built with, but for modules, handles and devices."""


PROGRAM = """
import json
from pathlib import Path
from claude_sandbox.probe.kernel import calls

def traces():
    places = ("/dev/shm", "/", "/etc", "/usr/local/bin")
    left = [one.name for place in places for one in Path(place).iterdir() if one.name.startswith("probe-")]
    return Path("/proc/self/mountinfo").read_text(), str(Path("/proc/self/ns/mnt").readlink()), left

before = traces()
came = [[one.name, one.may, one.error] for one in calls()]
print(json.dumps([came, before == traces()]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may")
def test_whoever_may_is_seen_to_and_nothing_is_left_of_it() -> None:
    """What each call comes to where nothing stands in its way. In a program of its own, as it always runs, and with
    mounts of its own, which others of the machine don't change."""
    command = ["unshare", "--mount", sys.executable, "-c", PROGRAM]
    environment = {**os.environ, "PYTHONPATH": str(ROOM)}
    # Whose memory is another's: a process of another namespace of processes.
    elsewhere = ["unshare", "--pid", "--fork", "--kill-child", "sleep", "600"]
    with subprocess.Popen(elsewhere, stdin=subprocess.DEVNULL) as other:
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=environment)
        finally:
            other.kill()
    told, unchanged = json.loads(done.stdout)
    came = {name: Call(name, May(may), error) for name, may, error in told}
    assert {name for name in UNCONFINED if came[name].may is not May.POSSIBLE} == set()
    assert [one for one in came.values() if one.may is May.FAILED] == []
    assert unchanged


def test_each_number_is_the_kernel_s() -> None:
    assert trying._NUMBERS[platform.machine()].items() <= linux_calls.numbers().items()


NARROW = """
import ctypes, json, os
from pathlib import Path
from claude_sandbox.probe import strict

def adjusted():
    found = ctypes.create_string_buffer(256)
    ctypes.CDLL(None).adjtimex(found)
    # modes, offset, freq; what follows is measured.
    return found.raw[:24].hex()

before = adjusted()
came = [[one.name, one.may, one.error] for one in strict.calls()]
print(json.dumps([came, before == adjusted()]))
"""


@pytest.mark.parametrize("user", [[], ["setpriv", "--reuid=65534", "--clear-groups", "--no-new-privs"]])
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another")
def test_what_strict_alone_refuses_anybody_may_elsewhere_and_nothing_is_left_of_it(user: list[str]) -> None:
    """Without a capability, too: what the kernel refused by itself would say nothing of a filter."""
    known = len(trace_lines())
    done = subprocess.run(
        [*user, "/usr/bin/python3", "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOM)!r})\n{NARROW}"],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    told, unchanged = json.loads(done.stdout)
    assert {name: may for name, may, _ in told} == dict.fromkeys(strict.ATTEMPTS, "possible")
    assert unchanged
    assert not [line for line in trace_lines()[known:] if "python" in line]


def trace_lines() -> list[str]:
    """What the kernel has logged."""
    return subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout.splitlines()


def test_a_call_is_judged_by_what_the_kernel_says() -> None:
    def says(code: int) -> May:
        return trying.tried("x", trying.Attempt(lambda: code, frozenset({errno.EINVAL}))).may

    assert (says(0), says(errno.EINVAL)) == (May.POSSIBLE, May.POSSIBLE)
    assert (says(errno.EPERM), says(errno.ENOSYS), says(errno.EACCES)) == (May.DENIED, May.DENIED, May.DENIED)
    assert (says(errno.EMFILE), says(errno.EFAULT)) == (May.FAILED, May.FAILED)


@pytest.mark.parametrize("signal", [9, 31])
def test_a_child_that_was_killed_says_nothing(signal: int) -> None:
    """Who may run commands beside it could kill it with the very signal of a filter."""
    attempt = trying.Attempt(lambda: os.kill(os.getpid(), signal) or 0)  # type: ignore[func-returns-value]
    assert trying.tried("x", attempt).may is May.FAILED


def test_a_call_that_does_not_return_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trying, "ENOUGH", 0.2)
    attempt = trying.Attempt(lambda: time.sleep(600) or 0)
    assert trying.tried("x", attempt).may is May.FAILED


def test_a_setuid_program_is_without_effect_where_no_privileges_are_gained() -> None:
    def confined() -> int:
        ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        return ATTEMPTS["setuid programs"].make()

    assert trying.tried("x", trying.Attempt(confined)).may is May.DENIED


def test_the_end_of_a_probe_in_a_pod_says_what_came_of_the_calls() -> None:
    found = (["denied"], ["possible", "denied"], ["failed"])
    ends = {ending(code, came, narrow) for code in (0, 10, 11) for came in found for narrow in found}
    assert len(ends) == 27
    assert max(ends) < 256
    # As whom a signal ends: 128 and its number; 64 there are, of which the kernel gives the last half no meaning.
    assert not ends & set(range(129, 128 + 32))
    assert Code.NOT_TRIED not in ends
    assert ending(Code.AS_MEANT, ["denied"]) == 0
