"""What the demo on Docker decides before it does anything, and what it says where it can't."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from claude_sandbox.cli.main import cli
from claude_sandbox.demo.docker import engines, flow, record
from claude_sandbox.demo.docker.record import Made
from claude_sandbox.install.errors import SetupError
from claude_sandbox.localcluster.layout import Layout

MADE = Made("unix:///not/there.sock", "some-control-plane", 23456, ("sha256:" + "a" * 64,))


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with nothing prepared, and a user who is not root."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(engines, "SOCKET", tmp_path / "docker.sock")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    for name in ("DOCKER_HOST", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)


def demo(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["demo", *arguments])


def test_without_an_engine_it_says_what_to_install() -> None:
    with pytest.raises(SetupError, match="No Docker Engine answers") as caught:
        engines.choose(None, print)
    assert "apt-get install docker.io" in caught.value.remedy
    assert "as root" in caught.value.remedy


def test_a_socket_behind_which_nobody_is_does_not_end_it_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "docker.sock").touch()
    said: list[str] = []
    with pytest.raises(SetupError, match="No Docker Engine answers"):
        engines.choose(None, said.append)
    assert "docker.sock is there, but" in said[0]


@pytest.mark.parametrize("endpoint", ["tcp://192.0.2.1:2376", "ssh://root@192.0.2.1"])
def test_an_engine_of_another_machine_is_not_used(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("DOCKER_HOST", endpoint)
    with pytest.raises(SetupError, match="not on this machine") as caught:
        engines.choose(None, print)
    assert "docs/operations.md" in caught.value.remedy


def test_an_engine_that_was_named_and_does_not_answer_is_not_replaced_by_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_HOST", MADE.endpoint)
    with pytest.raises(SetupError, match=MADE.endpoint):
        engines.choose(None, print)


def test_it_stays_on_the_engine_that_it_began_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engines.choose(MADE, print) == MADE.endpoint
    monkeypatch.setenv("DOCKER_HOST", "unix:///another.sock")
    with pytest.raises(SetupError, match="already") as caught:
        engines.choose(MADE, print)
    assert "make demo-down" in caught.value.remedy


def test_options_that_mean_nothing_on_docker_are_refused() -> None:
    done = demo("--backend", "docker", "--kubeconfig", "/some/file")
    assert done.exit_code == 2
    assert "--backend kubernetes" in done.output


def test_the_record_is_read_as_it_was_written_and_a_damaged_one_is_none() -> None:
    assert record.load() is None
    record.save(MADE)
    assert record.load() == MADE
    assert record.file().stat().st_mode & 0o777 == 0o600
    record.file().write_text('{"endpoint": 1')
    assert record.load() is None


def test_down_finds_nothing_where_nothing_was_made() -> None:
    done = demo("--down")
    assert done.exit_code == 0
    assert "There is nothing of the demo's." in done.output


def test_down_is_not_misled_by_the_demos_own_kubeconfig_that_is_still_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(Layout.of(flow.CLUSTER).kubeconfig))
    assert demo("--down").exit_code == 0
    monkeypatch.setenv("KUBECONFIG", "/not/there")
    assert demo("--down").exit_code == 1


def test_what_is_on_an_engine_that_does_not_answer_is_not_forgotten() -> None:
    record.save(MADE)
    done = demo("--down")
    assert done.exit_code == 1
    assert MADE.endpoint in done.output
    assert str(record.file()) in done.output
    assert record.load() == MADE
