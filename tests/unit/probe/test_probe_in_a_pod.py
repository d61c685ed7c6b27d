"""What tries in a pod: until it is as it is to be, in few bytes, and with an exit code that says the same."""

import ctypes
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from claude_sandbox.probe import kernel, pod, strict
from claude_sandbox.probe.kernel import ATTEMPTS
from claude_sandbox.probe.outcomes import Code, Outcome, code_of, ending
from claude_sandbox.probe.trying import Call, May

PR_SET_DUMPABLE = 4


@pytest.fixture(autouse=True)
def message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(pod, "MESSAGE", tmp_path / "termination-log")
    monkeypatch.setattr(pod, "_AGAIN", 0.05)
    monkeypatch.setattr(kernel, "calls", lambda: [Call(name, May.DENIED) for name in ATTEMPTS])
    return tmp_path / "termination-log"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def question(*targets: tuple[int, bool], settle: float = 0.5) -> str:
    told = [
        {"name": str(number), "host": "127.0.0.1", "port": port, "protocol": "tcp", "allowed": allowed}
        for number, (port, allowed) in enumerate(targets)
    ]
    return json.dumps({"seconds": 1, "settle": settle, "targets": told})


def came(message: Path) -> tuple[dict[str, str], int]:
    told: dict[str, Any] = json.loads(message.read_text())
    return {name: outcome for name, outcome, _, _ in told["attempts"]}, told["open"]


def test_all_as_it_is_to_be(message: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        allowed = server.getsockname()[1]
        assert pod.main(question((allowed, True), (free_port(), False))) == Code.AS_MEANT
    assert came(message) == ({"self": "connected", "0": "connected", "1": "refused"}, 0)


def test_what_stays_open_is_reached(message: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        assert pod.main(question((server.getsockname()[1], False))) == Code.REACHED
    outcomes, open_for = came(message)
    assert outcomes["0"] == "connected"
    assert open_for > 0


def test_what_is_closed_after_a_while_is_not_reached_and_for_how_long_it_was(message: Path) -> None:
    server = socket.create_server(("127.0.0.1", 0), backlog=64)
    closing = threading.Timer(0.3, server.close)
    closing.start()
    try:
        assert pod.main(question((server.getsockname()[1], False), settle=30)) == Code.AS_MEANT
    finally:
        closing.join()
    outcomes, open_for = came(message)
    assert outcomes["0"] == "refused"
    assert open_for > 0


def test_what_is_allowed_after_a_while_is_reached() -> None:
    port, opened = free_port(), threading.Event()

    def serve() -> None:
        time.sleep(0.3)
        with socket.create_server(("127.0.0.1", port)):
            opened.wait(30)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        assert pod.main(question((port, True), settle=30)) == Code.AS_MEANT
    finally:
        opened.set()
        thread.join()


def test_what_is_allowed_and_away_is_uncertain() -> None:
    assert pod.main(question((free_port(), True), settle=0.2)) == Code.UNCERTAIN


def test_what_could_not_be_tried_is_no_denial() -> None:
    assert code_of([(Outcome.FAILED, False)]) is Code.UNCERTAIN
    assert code_of([(Outcome.TIMEOUT, False), (Outcome.CONNECTED, True)]) is Code.AS_MEANT
    assert code_of([(Outcome.FAILED, True), (Outcome.CONNECTED, False)]) is Code.REACHED


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"seconds":1,"settle":1,"targets":[{}]}', "[" * 100_000])
def test_what_is_no_question_is_not_tried(text: str, message: Path) -> None:
    assert pod.main(text) == Code.NOT_TRIED
    assert not message.exists()


def as_nobody(do: Callable[[], bool]) -> int:
    """A process of another user that does this, then waits for its end; or ends by what it gave, where that is no."""
    if child := os.fork():
        return child
    code = 1
    try:
        os.setgroups([])
        os.setgid(65532)
        os.setuid(65532)
        # Whoever changes their user is not dumpable until they start a program.
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
        code = 0 if do() else 2
    finally:
        os._exit(code)


@pytest.mark.skipif(os.geteuid() != 0, reason="looks as another user")
@pytest.mark.parametrize("protected", [True, False])
def test_nobody_of_the_same_user_can_look_into_it(protected: bool) -> None:
    """Else whoever runs a command beside it could make it say, and end, what they want."""
    told, tell = os.pipe()

    def wait() -> bool:
        if protected:
            pod.undumpable()
        os.write(tell, b"x")
        time.sleep(60)
        return True

    running = as_nobody(wait)
    try:
        assert os.read(told, 1) == b"x"
        looking = as_nobody(lambda: bool(list(Path(f"/proc/{running}/fd").iterdir())))
        assert (os.waitstatus_to_exitcode(os.waitpid(looking, 0)[1]) == 0) is not protected
    finally:
        os.kill(running, 9)
        os.waitpid(running, 0)
        os.close(told)
        os.close(tell)


def test_what_strict_alone_refuses_is_tried_where_it_is_asked_for(
    message: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strict, "calls", lambda: [Call("adjtimex", May.POSSIBLE)])
    assert pod.main(question()) == Code.AS_MEANT
    assert json.loads(message.read_text())["strict"] == []
    asked = json.loads(question()) | {"strict": True}
    assert pod.main(json.dumps(asked)) == ending(Code.AS_MEANT, [], ["possible"])
    assert json.loads(message.read_text())["strict"] == [["adjtimex", "possible", ""]]
