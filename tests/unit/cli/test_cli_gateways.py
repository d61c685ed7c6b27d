"""The option `--gateway-settings`, and the bundle that its file names."""

from datetime import UTC, datetime
from pathlib import Path

import click
import pytest

from claude_sandbox.cli.gateways import gateway_settings_file
from claude_sandbox.localcluster.pki.certificates import new_ca

OPTION = click.Option(["--gateway-settings"])


def read(path: Path) -> object:
    return gateway_settings_file(click.Context(click.Command("run")), OPTION, str(path))


def test_a_bundle_is_looked_for_beside_the_file_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    pem = new_ca("a company", datetime(2026, 1, 1, tzinfo=UTC)).certificate.decode()
    (tmp_path / "ca.pem").write_bytes(b"# T\xf5 in an old encoding\n" + pem.encode())
    for name in ("ca.pem", str(tmp_path / "ca.pem")):
        (tmp_path / "gateways.json").write_text(f'{{"provider":{{"caFile":"{name}"}}}}')
        assert read(tmp_path / "gateways.json") == {"provider": {"caBundle": pem}}


def test_what_can_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "gateways.json").write_text('{"provider":{"caFile":"missing.pem"}}')
    with pytest.raises(click.BadParameter, match=r"missing\.pem can't be read \(FileNotFoundError\)"):
        read(tmp_path / "gateways.json")
    with pytest.raises(click.BadParameter, match=r"nothing\.json can't be read"):
        read(tmp_path / "nothing.json")
    assert gateway_settings_file(click.Context(click.Command("run")), OPTION, None) is None
