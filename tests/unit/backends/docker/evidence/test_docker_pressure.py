"""What a sandbox ran out of is told, with its remedy, and changes no faster than an agent may make it."""

from pathlib import Path

from docker_world import IDENTITY, blueprint_of
from hostile import JSON, changed
from hypothesis import given

from claude_sandbox.api.conditions import Reason
from claude_sandbox.backends.docker.evidence.exhaustion import Pressures, clauses, look
from claude_sandbox.backends.docker.state import state_of
from claude_sandbox.backends.pressure import CHANGES_AFTER, Pressure

CONTAINER = {"Id": "c" * 64, "Name": "/csb", "State": {"Running": True, "StartedAt": "2026-01-01T00:00:00Z"}}
KILLED = {"Type": "container", "Action": "oom", "Actor": {"ID": "c" * 64}}


def test_an_engines_event_is_remembered_until_the_container_starts_anew() -> None:
    now = 0.0
    pressures = Pressures(lambda: now)
    assert pressures.said(IDENTITY, CONTAINER, Pressure()) == Pressure()
    pressures.note(KILLED)
    now = CHANGES_AFTER
    assert pressures.said(IDENTITY, CONTAINER, Pressure()).out_of_memory
    pressures.note(KILLED | {"Action": "start"})
    again = {**CONTAINER, "State": {"Running": True, "StartedAt": "2026-01-01T00:00:01Z"}}
    assert pressures.said(IDENTITY, again, Pressure()) == Pressure()


def test_what_is_said_changes_once_a_minute_at_most() -> None:
    now = 0.0
    pressures = Pressures(lambda: now)
    full = Pressure(full=("/tmp",))
    assert pressures.said(IDENTITY, CONTAINER, full) == full
    now = CHANGES_AFTER - 1
    assert pressures.said(IDENTITY, CONTAINER, Pressure()) == full
    now = CHANGES_AFTER
    assert pressures.said(IDENTITY, CONTAINER, Pressure()) == Pressure()
    assert pressures.said(IDENTITY, CONTAINER, full) == Pressure()


def test_each_thing_that_is_short_is_said_with_its_remedy() -> None:
    blueprint = blueprint_of()
    said = clauses(Pressure(True, ("/tmp", "/home/claude", "/workspace")), blueprint)
    assert ["spec.resources.memory" in one for one in said] == [True, True, False]
    assert "/tmp and /home/claude are full" in said[1]
    assert "/workspace is full" in said[2]
    assert set(blueprint.writable) == {"/tmp", "/home/claude", "/workspace"}
    assert blueprint_of(workspace={"readOnly": True}).writable == ("/tmp", "/home/claude")
    healthy = {**CONTAINER, "State": {**CONTAINER["State"], "Health": {"Status": "healthy"}}}  # type: ignore[dict-item]
    state = state_of(healthy, "host", "7", ("no name can be resolved",), said)
    assert state.message.index(said[0]) < state.message.index("no name can be resolved")
    assert state.pressure == said


def test_a_directory_is_looked_at_without_following_a_link(tmp_path: Path) -> None:
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "42/root").mkdir(parents=True)
    (proc / "42/cgroup").write_text(f"0::/{'c' * 64}\n")
    # A file system without any room, if a link were followed to it.
    (proc / "42/root/full").symlink_to("/proc")
    group = cgroups / ("c" * 64)
    group.mkdir(parents=True)
    (group / "memory.events").write_text("low 0\noom 2\noom_kill 2\n")
    document = {"Id": "c" * 64, "State": {"Pid": 42}, "HostConfig": {"Runtime": "runc"}}
    assert look(document, ["/full", "/none", ""], proc, cgroups) == Pressure(True, ())
    (group / "memory.events").write_text("oom_kill \xff\n")
    assert look(document, [], proc, cgroups) == Pressure()


@given(changed(CONTAINER) | JSON, changed(KILLED) | JSON)
def test_no_document_and_no_event_ends_the_look(container: object, event: object) -> None:
    pressures = Pressures()
    if isinstance(event, dict):
        pressures.note(event)
    if isinstance(container, dict):
        look(container, ["/tmp"], Path("/nowhere"), Path("/nowhere"))


def test_the_control_group_tells_of_processes_and_of_cpu(tmp_path: Path) -> None:
    proc, group = tmp_path / "proc", tmp_path / "cgroup" / ("c" * 64)
    (proc / "42/root").mkdir(parents=True)
    (proc / "42/cgroup").write_text(f"0::/{'c' * 64}\n")
    group.mkdir(parents=True)
    document = {"Id": "c" * 64, "State": {"Pid": 42}, "HostConfig": {"Runtime": "runc"}}

    def seen(refused: int, periods: int, throttled: int) -> Pressure:
        (group / "pids.events").write_text(f"max {refused}\n")
        (group / "cpu.stat").write_text(f"usage_usec 5\nnr_periods {periods}\nnr_throttled {throttled}\n")
        return look(document, [], proc, tmp_path / "cgroup")

    assert seen(0, 6000, 2000) == Pressure()
    assert seen(0, 100, 100) == Pressure(), "a start alone"
    assert seen(3, 6000, 2000).reason is Reason.PROCESS_LIMIT_REACHED
    assert seen(0, 6000, 4000).reason is Reason.CPU_THROTTLED
    said = clauses(seen(3, 6000, 4000), blueprint_of())
    assert ["512" in one or "spec.resources.cpu" in one for one in said] == [True, True]


def test_a_workspace_of_an_enforced_size_is_full_by_that_and_not_by_the_disk() -> None:
    full = Pressure(full=("/workspace",))
    assert "host's disk" in clauses(full, blueprint_of())[0]
    assert "larger one" in clauses(full, blueprint_of(), {"/workspace"})[0]
    assert full.reason is Reason.NO_ROOM_LEFT
