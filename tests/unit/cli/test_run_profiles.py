"""What `claude-sandbox run` is told of the profiles that nodes have, and what it does not take."""

import pytest
from click.testing import CliRunner

from claude_sandbox.cli.operator import command
from claude_sandbox.controller.settings import Settings

RUN = ("--sandbox-image=example.org/s@sha256:" + "a" * 64,)


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ((), None),
        (("--strict-seccomp-profile=",), None),
        (("--strict-seccomp-profile=strict.json",), "strict.json"),
        (("--strict-seccomp-profile=operator/strict.json",), "operator/strict.json"),
    ],
)
def test_where_nodes_have_the_strict_filter(told: list[Settings], options: tuple[str, ...], path: str | None) -> None:
    assert CliRunner().invoke(command.run, [*RUN, *options]).exit_code == 0
    assert told[0].site.strict_profile == path


@pytest.mark.parametrize("path", ["/var/lib/kubelet/seccomp/strict.json", "../strict.json", "a/../../b.json"])
def test_an_api_server_would_take_no_pod_with_another_path(told: list[Settings], path: str) -> None:
    done = CliRunner().invoke(command.run, [*RUN, f"--strict-seccomp-profile={path}"])
    assert done.exit_code == 2
    assert "below the kubelet's directory" in done.output
    assert told == []


def test_profiles_of_app_armor_are_those_that_are_named(told: list[Settings]) -> None:
    assert CliRunner().invoke(command.run, [*RUN, "--apparmor-profile=a", "--apparmor-profile=b"]).exit_code == 0
    assert told[0].site.app_armor_profiles == {"a", "b"}
    done = CliRunner().invoke(command.run, [*RUN, "--apparmor-profile=unconfined"])
    assert done.exit_code == 2
    assert "turns AppArmor off" in done.output
