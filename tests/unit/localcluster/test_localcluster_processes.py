"""Real processes, checked against /proc: found again, restarted when they should be, never confused, ended."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from claude_sandbox.localcluster import components
from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.layout import Layout
from claude_sandbox.localcluster.processes import Process

SLEEP = ("/bin/sleep", "600")
# Says so in its log when it ignores the polite signal.
STUBBORN = ("/bin/sh", "-c", "trap 'echo no' TERM; echo ready; while :; do sleep 0.05; done")


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    layout = Layout(tmp_path / "cluster")
    layout.make()
    yield layout
    components.sweep(layout, grace=0)


def _exists(process: Process) -> bool:
    try:
        return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_starting_what_runs_already_changes_nothing(layout: Layout) -> None:
    first = components.start(layout, "sleeper", SLEEP)
    assert components.start(layout, "sleeper", SLEEP) == first
    assert _exists(first)


def test_other_arguments_environment_or_inputs_restart_it(layout: Layout, tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_text("one")
    seen = [
        components.start(layout, "sleeper", SLEEP),
        components.start(layout, "sleeper", ("/bin/sleep", "601")),
        components.start(layout, "sleeper", SLEEP, environment={"A": "b"}),
        components.start(layout, "sleeper", SLEEP, inputs=(file,)),
    ]
    file.write_text("two")
    seen.append(components.start(layout, "sleeper", SLEEP, inputs=(file,)))
    assert len({process.pid for process in seen}) == 5
    assert [_exists(process) for process in seen] == [False, False, False, False, True]


def test_it_outlives_its_starter_and_hears_nothing_of_its_terminal(layout: Layout) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from claude_sandbox.localcluster import components\n"
        "from claude_sandbox.localcluster.layout import Layout\n"
        "components.start(Layout(Path(sys.argv[1])), 'sleeper', ('/bin/sleep', '600'))"
    )
    subprocess.run([sys.executable, "-c", code, layout.root], check=True)
    process = components.running(layout, "sleeper")
    assert process is not None
    assert os.getsid(process.pid) == process.pid
    descriptors = {entry.name: str(entry.readlink()) for entry in Path(f"/proc/{process.pid}/fd").iterdir()}
    log = str(components.log_file(layout, "sleeper"))
    assert descriptors == {"0": "/dev/null", "1": log, "2": log}


def test_it_gets_nothing_of_the_callers_environment_but_path_and_home(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "not-for-components")
    process = components.start(layout, "sleeper", SLEEP)
    environment = Path(f"/proc/{process.pid}/environ")
    # The kernel lets the starter go on a moment before the new program's environment is laid out.
    _until(lambda: environment.read_bytes() != b"")
    variables = environment.read_bytes().rstrip(b"\0").split(b"\0")
    assert {variable.partition(b"=")[0] for variable in variables} == {b"PATH", b"HOME", b"CLAUDE_SANDBOX_CLUSTER"}


def test_a_record_of_another_process_with_the_same_id_is_not_believed(layout: Layout) -> None:
    process = components.start(layout, "sleeper", SLEEP)
    for impostor in (replace(process, started=process.started - 1), replace(process, boot="another boot")):
        assert not impostor.alive()
        assert not impostor.send(signal.SIGKILL)
        impostor.kill()
    assert _exists(process)


def test_one_that_ignores_the_polite_signal_is_ended_all_the_same(layout: Layout) -> None:
    process = components.start(layout, "stubborn", STUBBORN)
    log = components.log_file(layout, "stubborn")
    _until(lambda: log.read_text() == "ready\n")
    components.stop(layout, "stubborn", grace=0.3)
    assert not _exists(process)
    assert log.read_text().startswith("ready\nno\n")
    assert components.running(layout, "stubborn") is None


def test_killing_what_does_not_run_is_an_error(layout: Layout) -> None:
    components.start(layout, "sleeper", SLEEP)
    components.kill(layout, "sleeper")
    with pytest.raises(LocalClusterError, match="sleeper"):
        components.kill(layout, "sleeper")


def test_the_sweep_finds_what_has_no_record_and_descendants_and_spares_other_clusters(
    layout: Layout, tmp_path: Path
) -> None:
    other = Layout(tmp_path / "cluster-2")
    other.make()
    spared = components.start(other, "sleeper", SLEEP)
    unrecorded = components.start(layout, "sleeper", SLEEP)
    components.record_file(layout, "sleeper").unlink()
    # A daemon of a daemon: its parent is gone, as a container's shim's is.
    told = tmp_path / "may end"
    script = f"setsid sleep 600 & until [ -e '{told}' ]; do sleep 0.01; done"
    components.start(layout, "parent", ("/bin/sh", "-c", script))
    told.touch()
    _until(lambda: len(list(components.marked(layout))) == 2)
    found = list(components.marked(layout))
    assert unrecorded in found
    assert components.sweep(layout) == 2
    assert not any(_exists(process) for process in found)
    assert _exists(spared)
    components.sweep(other, grace=0)


def test_a_program_that_is_not_there_is_an_error_that_names_it(layout: Layout) -> None:
    with pytest.raises(LocalClusterError, match="/no/such/program"):
        components.start(layout, "ghost", ("/no/such/program",))
    assert components.running(layout, "ghost") is None


def test_a_process_whose_first_thread_ended_is_alive_until_its_last_one_has(layout: Layout) -> None:
    # The kernel shows it as a zombie, yet its sockets are open: its ports are not free.
    code = (
        "import ctypes, threading, time\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "ctypes.CDLL(None).pthread_exit(None)"
    )
    process = components.start(layout, "headless", (sys.executable, "-c", code))
    _until(lambda: " Z " in Path(f"/proc/{process.pid}/stat").read_text())
    assert process.alive()
    components.kill(layout, "headless")
    assert not process.alive()


def test_a_log_that_has_grown_large_is_put_aside_at_the_next_start(layout: Layout) -> None:
    log = components.log_file(layout, "speaker")
    with log.open("wb") as file:
        file.truncate(33 * 2**20)
    components.start(layout, "speaker", ("/bin/sh", "-c", "echo new; exec sleep 600"))
    _until(lambda: log.read_text() == "new\n")
    assert [entry.name for entry in layout.logs.iterdir() if entry != log] == ["speaker.log.1"]
