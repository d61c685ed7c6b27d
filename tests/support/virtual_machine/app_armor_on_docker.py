"""What AppArmor does to containers on a real Docker Engine; run as root on a machine whose kernel has it.

Prints as JSON what engine, kernel and controls say of containers as locked down as sandboxes, with and without a
profile of the machine's own, and of what somebody does to them behind the operator's back.
"""

import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import docker
from app_armor import ATTEMPT, PROFILE, profile
from docker.models.containers import Container
from enginekit import client, hardened, make_tiny_image, ready

from claude_sandbox.api.conditions import Reason
from claude_sandbox.api.spec import AppArmorProfile
from claude_sandbox.api.status import EvidenceSource
from claude_sandbox.backends.base import Cause, Failure
from claude_sandbox.backends.docker.apply import failure_of
from claude_sandbox.backends.docker.documents.hardening import APP_ARMOR
from claude_sandbox.backends.docker.engine.capabilities import gives_app_armor
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.evidence.proc import read_process
from claude_sandbox.backends.docker.model import CONTAINER, Step, Verb
from claude_sandbox.backends.docker.state import state_of
from claude_sandbox.compliance.evidence.containers import Declared, DockerEvidence
from claude_sandbox.compliance.evidence.process import Process
from claude_sandbox.compliance.evidence.readings import Reading
from claude_sandbox.compliance.reports.containers import findings
from claude_sandbox.localcluster import engine
from claude_sandbox.localcluster.engine import lifecycle

_NAME = "tests-app-armor"
_OURS = AppArmorProfile.model_validate({"type": "Localhost", "localhostProfile": PROFILE})


def load(mode: str = "enforce") -> None:
    """The machine has the profile from now on."""
    _parser("--replace", mode)


def _parser(action: str, mode: str = "enforce") -> None:
    subprocess.run(["apparmor_parser", "--skip-cache", action], input=profile(mode), text=True, check=True)


def made(connected: docker.DockerClient, *options: str) -> Container:
    """A container as locked down as a sandbox, with these security options besides."""
    return hardened(
        connected, "claudesandbox.dev/tiny:1", network_mode="none", tmpfs={"/workspace": "size=1m,mode=1777"},
        security_opt=["no-new-privileges", *options],
    )  # fmt: skip


def seen(one: Container, asked: AppArmorProfile | None = None) -> dict[str, Any]:
    """What is said of a container, by whom. `asked`: what a sandbox asks for that it stands for."""
    one.reload()
    process = read_process(one.attrs)
    assert process is not None
    return {
        "engine": one.attrs["AppArmorProfile"],
        "kernel": process.confinement,
        "inside": _printed(one, "cat", "/proc/self/attr/apparmor/current").strip(),
        "judged": _judged(one, asked, process),
        "without the kernel": _judged(one, asked, None),
        "attempt": _printed(one, "sh", "-c", ATTEMPT).splitlines(),
    }


def _printed(one: Container, *command: str) -> str:
    output = one.exec_run(list(command)).output
    assert isinstance(output, bytes)
    return output.decode()


def _judged(one: Container, asked: AppArmorProfile | None, process: Process | None) -> list[str]:
    now = datetime.now(UTC)
    evidence = DockerEvidence(
        declared=Declared(app_armor=asked),
        container=Reading(one.attrs, EvidenceSource.INSPECT, now),
        now=now,
        networks=(),
        volumes=(),
        process=None if process is None else Reading(process, EvidenceSource.HOST_PROC, now),
    )
    found = next(one for one in findings(evidence) if one.control.id == "KERN-02")
    return [found.result.value, str(found.source), found.verdict.message]


def lacking(connected: docker.DockerClient) -> dict[str, str]:
    """What is said of a sandbox's container whose profile the machine has not loaded, and of the start that failed."""
    name, refused, failed = "lacking", "", Failure(Reason.RETRYING, "", permanent=False)
    start = Step(Verb.START, Cause.UPDATE, CONTAINER, name)
    try:
        connected.containers.run(
            "claudesandbox.dev/tiny:1", name=name, detach=True, security_opt=[f"{APP_ARMOR}{PROFILE}"]
        )
    except docker.errors.APIError as error:
        refused = str(error)
        failed = failure_of(start, EngineError(error.status_code or 0, str(error.explanation)), PROFILE)
    found = state_of(connected.api.inspect_container(name), "host-1", None, ())
    told = {"status": found.status.value, "reason": found.reason.value, "message": found.message}
    return {"refused": refused, **told, "failed": failed.reason.value, "why": failed.message}


def observe(connected: docker.DockerClient) -> dict[str, Any]:
    """Everything, in the order in which it is done."""
    info = connected.info()
    found: dict[str, Any] = {"options": info["SecurityOptions"], "gives": gives_app_armor(info)}
    found["plain"] = seen(made(connected))
    found["unconfined"] = seen(made(connected, f"{APP_ARMOR}unconfined"))
    found["lacking"] = lacking(connected)
    load()
    confined = made(connected, f"{APP_ARMOR}{PROFILE}")
    found["confined"] = seen(confined, _OURS)
    found["another"] = seen(made(connected), _OURS)
    load("complain")
    found["complaining"] = seen(confined, _OURS)
    load()
    found["again"] = seen(confined, _OURS)
    _parser("--remove")
    found["taken away"] = seen(confined, _OURS)
    return found


def main() -> None:
    """The engine goes with all that is on it."""
    # The machine may be one that translates its programs.
    lifecycle._PATIENCE = 600.0
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        made = ready(_NAME, engine.DEFAULT_RELEASE, make_tiny_image(Path(directory) / "tiny.tar"))
        print(f"The engine is up after {time.monotonic() - began:.0f} s.", file=sys.stderr, flush=True)
        try:
            with client(made) as connected:
                print(json.dumps(observe(connected)))
        finally:
            engine.down(_NAME, lambda _: None)


if __name__ == "__main__":
    main()
