"""What systemd is told: who runs as what, with which keys, listening where, and when it is to be started anew."""

import base64
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from claude_sandbox.install.manifests import Installation, render
from claude_sandbox.machine import docker, keys, lifecycle, rights, systemd, units
from claude_sandbox.machine.places import APISERVER, CONTROLLERS, DAILY, ETCD, OPERATOR, Places, unit
from claude_sandbox.machine.services import Service, services
from claude_sandbox.machine.settings import PROGRAMS, Settings
from claude_sandbox.trail.keys import public_key, signer

SETTINGS = Settings(
    port=6443,
    image="registry.example/sandbox@sha256:" + "a" * 64,
    image_named=True,
    socket="/var/run/docker.sock",
    group="docker",
    programs={name: f"versions/some-1/{name}" for name in PROGRAMS},
    operator="versions/operator-1",
    python="/usr/bin/python3.11",
)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Below another root, with keys."""
    made = Places(tmp_path)
    keys.ensure(made, SETTINGS)
    return made


def each(places: Places, settings: Settings = SETTINGS) -> dict[str, Service]:
    return {one.name: one for one in services(settings, places)}


def texts(places: Places, settings: Settings = SETTINGS) -> dict[str, str]:
    return units.texts(services(settings, places), settings, places)


def values(text: str, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", text, re.MULTILINE)


def marks(places: Places, settings: Settings = SETTINGS) -> dict[str, str]:
    found = {name: units.started_from(text) for name, text in texts(places, settings).items()}
    return {name: mark for name, mark in found.items() if mark}


def test_nothing_listens_beyond_this_machine(places: Places) -> None:
    for one in each(places).values():
        for argument in one.argv:
            option, _, value = argument.partition("=")
            if "listen" in option or "bind" in option or "advertise" in option:
                assert "127.0.0.1" in value, argument


def test_every_service_has_an_account_of_its_own_that_may_do_nothing(places: Places) -> None:
    accounts = set()
    for name in (ETCD, APISERVER, CONTROLLERS, OPERATOR):
        text = texts(places)[unit(name)]
        assert values(text, "DynamicUser") == ["yes"]
        assert values(text, "CapabilityBoundingSet") == [""]
        assert values(text, "NoNewPrivileges") == ["yes"]
        assert values(text, "ProtectSystem") == ["strict"]
        assert values(text, "Restart") == ["always"]
        assert values(text, "StartLimitIntervalSec") == ["0"]
        accounts |= set(values(text, "User"))
    assert len(accounts) == 4


def test_the_operator_is_of_dockers_group_and_no_other_service_of_any(places: Places) -> None:
    groups = {name: values(text, "SupplementaryGroups") for name, text in texts(places).items()}
    assert {name: found for name, found in groups.items() if found} == {unit(OPERATOR): ["docker"]}


def test_only_what_has_business_elsewhere_may_speak_to_others(places: Places) -> None:
    denied = {name for name, text in texts(places).items() if values(text, "IPAddressDeny") == ["any"]}
    assert denied == {unit(ETCD), unit(APISERVER), unit(CONTROLLERS), f"{DAILY}.service"}


def test_keys_are_given_to_the_services_that_need_them_and_to_no_other(places: Places) -> None:
    given = {name: set(one.credentials) for name, one in each(places).items()}
    assert {name for name, one in given.items() if "encryption.yaml" in one} == {APISERVER}
    assert {name for name, one in given.items() if "service-account.key" in one} == {APISERVER}
    # Nobody needs an authority's key: certificates are made by root.
    assert not any("ca.key" in one or "etcd-ca.key" in one for one in given.values())
    assert given[OPERATOR] == {"kubeconfig", "sessions.crt", "sessions.key", "trail-key.pem"}


def test_the_operators_audit_trail_is_signed_with_a_key_of_its_own_and_copied_to_the_journal(places: Places) -> None:
    operator = each(places)[OPERATOR]
    assert f"--trail-directory={places.seen(places.data)}/trail" in operator.argv
    assert "--trail-key=${CREDENTIALS_DIRECTORY}/trail-key.pem" in operator.argv
    assert "--trail-export=stdout" in operator.argv
    assert values(texts(places)[unit(OPERATOR)], "StateDirectory") == ["claude-sandbox/trail"]
    assert public_key(places.trail_public_key.read_text()) == signer(places.trail_key).key
    key = places.trail_key.read_bytes()
    keys.ensure(places, SETTINGS)
    assert places.trail_key.read_bytes() == key


def test_no_key_is_in_a_unit_and_no_service_reads_the_directory_of_keys(places: Places) -> None:
    secrets = [path.read_text().splitlines()[1] for path in places.pki.glob("*.key")]
    for text in texts(places).values():
        assert not any(secret in text for secret in secrets)
        assert not any("/etc/claude-sandbox" in line for line in values(text, "ExecStart"))


def test_every_file_of_keys_is_its_owners_alone(places: Places) -> None:
    files = [path for path in places.config.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (places.config, places.pki)} == {0o700}


def test_only_the_administrator_may_do_everything(places: Places) -> None:
    masters = [name for name, (_, subject) in keys.subjects().items() if "system:masters" in subject.groups]
    assert masters == ["admin"]


def test_the_operator_has_the_rights_of_the_manifests_under_the_name_of_its_certificate() -> None:
    found = rights.rights()
    wanted = render(Installation(docker=True))
    assert [one for one in found if "rules" in one] == [one for one in wanted if "rules" in one]
    bindings = [one for one in found if "roleRef" in one]
    assert [one["roleRef"] for one in bindings] == [one["roleRef"] for one in wanted if "roleRef" in one]
    (user,) = {subject["name"] for one in bindings for subject in one["subjects"]}
    assert user == keys.subjects()[OPERATOR][1].common_name


def test_paths_are_those_of_the_machine_that_it_is_made_for(places: Places) -> None:
    for text in texts(places).values():
        assert str(places.root) not in text
    assert "/usr/local/lib/claude-sandbox/versions/some-1/etcd " in texts(places)[unit(ETCD)]


def test_a_service_is_started_anew_when_what_it_is_made_of_changes_and_only_then(places: Places) -> None:
    before = marks(places)
    assert set(before) == {unit(name) for name in (ETCD, APISERVER, CONTROLLERS, OPERATOR)}
    assert marks(places) == before

    def changed(now: dict[str, str]) -> set[str]:
        return {name for name in before if now[name] != before[name]}

    assert changed(marks(places, replace(SETTINGS, image="another"))) == {unit(OPERATOR)}
    newer = replace(SETTINGS, programs={**SETTINGS.programs, "etcd": "versions/some-2/etcd"})
    assert changed(marks(places, newer)) == {unit(ETCD)}
    (places.pki / "apiserver.crt").write_text("renewed")
    assert changed(marks(places)) == {unit(APISERVER)}


def test_secrets_are_encrypted_and_never_taken_in_clear() -> None:
    document = yaml.safe_load(keys.encryption(b"k" * 32))
    (rule,) = document["resources"]
    assert rule["resources"] == ["secrets"]
    (provider,) = rule["providers"]
    (key,) = provider["secretbox"]["keys"]
    assert base64.b64decode(key["secret"]) == b"k" * 32


def test_keys_stay_what_they_are(places: Places) -> None:
    before = {path: path.read_bytes() for path in places.config.rglob("*") if path.is_file()}
    keys.ensure(places, SETTINGS)
    assert {path: path.read_bytes() for path in places.config.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("argument", "written"),
    [
        ("--plain=1", "--plain=1"),
        ("100%", "100%%"),
        ("with space", '"with space"'),
        ('a "quote"', '"a \\"quote\\""'),
        ("semi;colon", '"semi;colon"'),
    ],
)
def test_arguments_are_written_as_systemd_reads_them(argument: str, written: str) -> None:
    assert units.command_line([argument]) == written


@pytest.mark.parametrize(
    ("release", "supported"),
    [
        ({"ID": "debian"}, True),
        ({"ID": "ubuntu", "ID_LIKE": "debian"}, True),
        ({"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}, True),
        ({"ID": "fedora"}, False),
        ({"ID": "rocky", "ID_LIKE": "rhel centos fedora"}, False),
        ({}, False),
    ],
)
def test_docker_is_offered_where_the_distribution_has_it_by_that_name(release: dict[str, str], supported: bool) -> None:
    assert docker.is_supported(release) is supported


def test_what_holds_for_all_gateways_is_given_to_the_operator_which_is_started_anew_by_it(places: Places) -> None:
    told = replace(SETTINGS, gateways=True)
    assert "gateways.json" not in each(places)[OPERATOR].credentials
    assert each(places, told)[OPERATOR].credentials["gateways.json"] == places.gateways
    assert "--gateway-settings=${CREDENTIALS_DIRECTORY}/gateways.json" in each(places, told)[OPERATOR].argv
    before = marks(places, told)
    places.gateways.write_text('{"egress": {}}')
    assert {name for name, mark in marks(places, told).items() if before[name] != mark} == {unit(OPERATOR)}


def test_ports_are_published_by_the_image_that_was_brought_along(places: Places) -> None:
    relay = "claudesandbox.dev/operator@sha256:" + "b" * 64
    assert not any("relay" in argument for argument in each(places)[OPERATOR].argv)
    assert f"--relay-image={relay}" in each(places, replace(SETTINGS, relay=relay))[OPERATOR].argv


def test_systemd_is_told_of_units_that_an_interrupted_command_wrote(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: str) -> str:
        raise KeyboardInterrupt

    said: list[tuple[str, ...]] = []

    def heard(*arguments: str) -> str:
        said.append(arguments)
        return ""

    monkeypatch.setattr(systemd, "call", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lifecycle.settle(places, SETTINGS)
    monkeypatch.setattr(systemd, "call", heard)
    lifecycle.settle(places, SETTINGS)
    assert said == [("daemon-reload",)]
