"""Services of Compose files, judged as the containers that Compose would make of them."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from manifest_files import IMAGE, STANDARD, Object, judged, project, results, service

from claude_sandbox.api.status import Result
from claude_sandbox.compliance.evidence.containers import Declared
from claude_sandbox.manifests.compose.remedies import REMEDIES

F, U = Result.FAIL, Result.UNKNOWN
# What only the engine tells: its default runtime and user namespace, AppArmor and SELinux, and two that need probes.
BEYOND_A_FILE = {
    *("PRIV-06", "PRIV-07", "KERN-02", "KERN-03", "KERN-06", "KERN-07", "NET-03", "NET-04", "NET-07", "NET-09"),
    "OPS-02",
}

Mutation = Callable[[Object], Any]


def with_(**fields: Any) -> Mutation:
    return lambda one: service(one).update(fields)


def without(*fields: str) -> Mutation:
    def mutate(one: Object) -> None:
        for field in fields:
            del service(one)[field]

    return mutate


def mounted(*volumes: Any) -> Mutation:
    return lambda one: service(one)["volumes"].extend(volumes)


def network(**fields: Any) -> Mutation:
    return lambda one: one["networks"]["inner"].update(fields)


_SHARED = {"propagation": "shared"}

MUTATIONS: dict[str, tuple[Mutation, str]] = {
    "privileged": (with_(privileged=True), "PRIV-01 PRIV-02 KERN-01 KERN-04 FS-05 NET-09"),
    "no capabilities dropped": (without("cap_drop"), "PRIV-02"),
    "a capability": (with_(cap_add=["NET_ADMIN"]), "PRIV-02 NET-09"),
    "no-new-privileges turned off": (with_(security_opt=["no-new-privileges:false"]), "PRIV-03"),
    "unconfined": (with_(security_opt=["no-new-privileges", "seccomp:unconfined"]), "KERN-01"),
    "a profile in a file": (with_(security_opt=["no-new-privileges", "seccomp:./own.json"]), "KERN-01?"),
    "no AppArmor": (with_(security_opt=["no-new-privileges", "apparmor=unconfined"]), "KERN-02"),
    "unmasked": (with_(security_opt=["no-new-privileges", "systempaths=unconfined"]), "KERN-04"),
    "root": (with_(user="0:0"), "PRIV-04 PRIV-05"),
    "the image's user": (without("user"), "PRIV-04? PRIV-05?"),
    "a number as user": (with_(user=1000), "PRIV-05?"),
    "a variable as user": (with_(user="${UID}:1000"), "PRIV-04? PRIV-05?"),
    "the group docker": (with_(group_add=["docker", 999]), "PRIV-05"),
    "users of the host": (with_(userns_mode="host"), "PRIV-06"),
    "host's processes": (with_(pid="host"), "NS-01"),
    "another's processes": (with_(pid="service:db"), "NS-01? NS-05"),
    "host's IPC": (with_(ipc="host"), "NS-02"),
    "host's name": (with_(uts="host"), "NS-04"),
    "host's cgroups": (with_(cgroup="host"), "NS-04"),
    "default cgroups": (without("cgroup"), "NS-04?"),
    "a sysctl": (with_(sysctls={"kernel.msgmax": 1}), "KERN-05"),
    "a sysctl in a list": (with_(sysctls=["kernel.msgmax=1"]), "KERN-05"),
    "a port": (with_(ports=["8080:80"]), "NS-06"),
    "a port of a random number": (with_(ports=[3000]), "NS-06"),
    "a port on the loopback": (with_(ports=["127.0.0.1:8080:80"]), "NS-06?"),
    "a port on IPv6": (with_(ports=["[::]:8080:80/udp"]), "NS-06"),
    "a low port on the loopback": (with_(ports=["127.0.0.1:22:22"]), "NS-06"),
    "a port in full": (with_(ports=[{"target": 80, "published": "8080", "mode": "ingress"}]), "NS-06"),
    "a port that is a variable": (with_(ports=["${PORT}:80"]), "NS-06?"),
    "writable root": (with_(read_only=False), "FS-01"),
    "a truth that is a text": (with_(read_only="true"), "FS-01?"),
    "the engine's socket": (mounted("/var/run/docker.sock:/s"), "FS-02 FS-03 FS-08"),
    "the socket by name": (with_(use_api_socket=True), "FS-02 FS-03 FS-08"),
    "a bind in full": (
        mounted({"type": "bind", "source": "/etc", "target": "/x", "read_only": True}),
        "FS-02 SEC-03",
    ),
    "the project's directory": (mounted(".:/code:ro"), "FS-02?"),
    "keys of the host's user": (mounted("~/.ssh:/home/claude/.ssh:ro"), "FS-02? SEC-03"),
    "the home of the host's user": (mounted("~:/x:ro"), "FS-02 SEC-03"),
    "somewhere of a variable": (
        mounted("${PWD}:/code:ro"),
        "FS-02? FS-03? FS-05? FS-07? FS-08? RES-07? SEC-02? SEC-03?",
    ),
    "another's volumes": (
        with_(volumes_from=["db"]),
        "FS-02? FS-03? FS-05? FS-06? FS-07? FS-08? RES-07? SEC-02? SEC-03?",
    ),
    "a volume that is the host's": (
        lambda one: one["volumes"]["workspace"].update(driver_opts={"device": "/", "o": "bind", "type": "none"}),
        "FS-02 FS-03 SEC-03",
    ),
    "a volume from elsewhere": (
        lambda one: one["volumes"]["workspace"].update(external=True),
        "FS-02? FS-03? FS-05? RES-07? SEC-03?",
    ),
    "a second volume": (mounted("cache:/cache"), "FS-02? FS-03? FS-05? FS-08 SEC-03?"),
    "shared propagation": (
        mounted({"type": "bind", "source": "/srv/x", "target": "/x", "read_only": True, "bind": _SHARED}),
        "FS-02? FS-06",
    ),
    "an image of unknown volumes": (with_(image="registry.example/x@sha256:" + "b" * 64), "FS-08?"),
    "a device": (with_(devices=["/dev/kvm:/dev/kvm"]), "FS-05"),
    "a device rule": (with_(device_cgroup_rules=["c 1:3 mr"]), "FS-05"),
    "a GPU": (with_(gpus="all"), "FS-05"),
    "a reserved GPU": (
        with_(deploy={"resources": {"reservations": {"devices": [{"capabilities": ["gpu"]}]}}}),
        "FS-05",
    ),
    "tmpfs without a size": (with_(tmpfs="/tmp"), "FS-07"),
    "tmpfs with setuid": (with_(tmpfs=["/tmp:size=1m,suid"]), "FS-07"),
    "tmpfs in full without a size": (mounted({"type": "tmpfs", "target": "/x"}), "FS-07"),
    "no memory limit": (without("mem_limit"), "RES-01"),
    "no CPU limit": (without("cpus"), "RES-02"),
    "no process limit": (without("pids_limit"), "RES-03"),
    "unlimited processes": (with_(pids_limit=-1), "RES-03"),
    "no limit of files": (without("ulimits"), "RES-04"),
    "a log without a bound": (with_(logging={"driver": "json-file"}), "RES-08"),
    "a log as the engine keeps it": (without("logging"), "RES-08?"),
    "a log whose driver a variable names": (with_(logging={"driver": "${DRIVER}"}), "RES-08?"),
    "restarted for ever": (with_(restart="unless-stopped"), "RES-05"),
    "restarted for ever, as for a swarm": (with_(deploy={"restart_policy": {"condition": "any"}}), "RES-05"),
    "host's network": (lambda one: (without("networks")(one), with_(network_mode="host")(one)), "NS-03 NET-08"),
    "another's network": (
        lambda one: (without("networks")(one), with_(network_mode="service:db")(one)),
        "NS-03? NS-05 NS-06? NET-08?",
    ),
    "the default network": (without("networks"), "NET-08"),
    "a network that leads out": (network(internal=False), "NET-08"),
    "a network with the host on it": (network(driver_opts={}), "NET-08"),
    "a network from elsewhere": (network(external=True), "NET-08?"),
    "somebody else on the network": (
        lambda one: one["services"].update(proxy={"image": "x", "networks": ["inner"]}),
        "NET-08?",
    ),
    "a key": (with_(environment={"API_KEY": "hunter22"}), "SEC-01"),
    "a key of Compose's own environment": (with_(environment=["ANTHROPIC_API_KEY"]), "SEC-01"),
    "a key by a variable": (with_(environment={"DB_PASSWORD": "${DB_PASSWORD:?}"}), "SEC-01"),
    "a key in the command": (with_(command="run --token hunter22abc"), "SEC-01"),
    "variables in a file": (with_(env_file=[".env"]), "FS-03? SEC-01?"),
    "a key in a label": (with_(labels={"x": "sk-ant-api03-" + "x" * 40}), "SEC-01"),
    "a secret": (
        lambda one: (with_(secrets=["key"])(one), one.update(secrets={"key": {"file": "./key.txt"}})),
        "FS-02? SEC-02?",
    ),
    "a tag": (with_(image="registry.example/sandboxes/claude:1"), "FS-08? IMG-01"),
    "an image by a variable": (with_(image="${IMAGE}"), "FS-08? IMG-01?"),
    "the image's health check": (without("healthcheck"), "OPS-01?"),
    "no health check": (with_(healthcheck={"disable": True}), "OPS-01"),
    "a privileged hook": (with_(post_start=[{"command": "id", "privileged": True}]), "PRIV-08"),
    "a hook of root's": (with_(post_start=[{"command": "id", "user": "root"}]), "PRIV-08"),
}  # fmt: skip


def of_agent(one: Object, standard: Any = STANDARD) -> dict[str, Result]:
    outcome = judged(one, standard=standard)
    assert outcome.problems == ()
    [agent] = [each for each in outcome.judged if each.target["name"] == "agent"]
    return {finding.control.id: finding.result for finding in agent.findings}


def test_the_remedy_of_what_fails_is_in_the_words_of_a_compose_file() -> None:
    failing = set()
    for mutate, _ in MUTATIONS.values():
        one = project()
        mutate(one)
        for judged_one in judged(one).judged:
            for finding in judged_one.findings:
                if finding.result is F:
                    failing.add(finding.control.id)
                    assert finding.remedy == REMEDIES.get(finding.control.id, finding.remedy)
                    assert "Run it with" not in finding.remedy
    assert REMEDIES.keys() - failing <= {"KERN-03", "KERN-06", "SEC-02"}


def test_of_a_service_as_it_should_be_only_what_the_engine_decides_is_open() -> None:
    found = results(project())
    assert {id for id, one in found.items() if one is F} == set()
    assert {id for id, one in found.items() if one is U} == BEYOND_A_FILE


@pytest.mark.parametrize("name", MUTATIONS)
def test_what_is_wrong_in_a_service_is_found(name: str) -> None:
    mutate, expected = MUTATIONS[name]
    before, one = results(project()), project()
    mutate(one)
    found = of_agent(one)
    marks = {U: "?", F: ""}
    changed = {f"{id}{marks[result]}" for id, result in found.items() if result in marks and result is not before[id]}
    assert changed == set(expected.split())


@pytest.mark.parametrize(
    "same",
    [
        lambda one: (without("mem_limit", "cpus", "pids_limit")(one), with_(deploy={"resources": {"limits": {
            "memory": "2048M", "cpus": "2", "pids": 100}}})(one)),
        with_(mem_limit=2147483648, cpus=2),
        with_(tmpfs="/tmp:size=256m"),
        with_(environment=["HOME=/home/claude", "TTL=$$TOKEN"]),
        with_(ulimits={"nofile": 8192}),
        with_(networks=["inner"]),
        with_(restart=False),
        with_(restart="on-failure:3"),
        with_(build={"context": "."}),
        with_(depends_on=["x"], labels=["a=b"], extra_hosts={"a": "192.0.2.1"}),
        lambda one: (without("networks")(one), with_(network_mode="none")(one)),
    ],
)  # fmt: skip
def test_other_forms_of_the_same_are_the_same(same: Mutation) -> None:
    one = project()
    same(one)
    assert of_agent(one) == results(project())


def test_peers_mounts_and_workspaces_are_declared_as_for_a_container() -> None:
    one = project()
    one["services"]["proxy"] = {"image": "x", "networks": ["inner"]}
    mounted(".:/code:ro")(one)
    assert {of_agent(one)[id] for id in ("NET-08", "FS-02")} == {U}
    declared = Declared(workspaces=frozenset({"/workspace"}), mounts=frozenset({"/code"}), peers=frozenset({"proxy"}))
    found = of_agent(one, replace(STANDARD, declared=declared))
    assert {found[id] for id in ("NET-08", "FS-02")} == {Result.PASS}


def test_where_the_file_is_decides_what_a_dot_is() -> None:
    one = project()
    mounted("..:/code:ro")(one)
    [found] = judged(one, directory="/srv").judged
    assert {each.control.id for each in found.findings if each.result is F} == {"FS-02", "FS-03", "SEC-03"}
    [found] = judged(one, directory="").judged
    assert all(each.result is not F for each in found.findings)


@pytest.mark.parametrize(
    "mutate",
    [
        mounted({"type": "bind", "source": "etc", "target": "/code", "read_only": True}),
        lambda one: (with_(configs=["code"])(one), one.update(configs={"code": {"file": "etc"}})),
    ],
)
def test_where_only_a_path_can_be_a_dot_is_not_needed(mutate: Mutation) -> None:
    one = project()
    mutate(one)
    [found] = judged(one, directory="/").judged
    assert "FS-02" in {each.control.id for each in found.findings if each.result is F}
    [found] = judged(one, directory="").judged
    assert all(each.result is not F for each in found.findings)


@pytest.mark.parametrize(
    ("mutate", "why"),
    [
        (with_(extends={"service": "x"}), "x.yaml:8: service agent extends another: give what `docker compose config`"),
        (lambda one: one.update(include=["y"]), "it includes other files: give what `docker compose config`"),
        (lambda one: one["services"].update(agent="x"), "service agent has no fields"),
    ],
)
def test_what_is_elsewhere_is_told_with_what_resolves_it(mutate: Mutation, why: str) -> None:
    one = project()
    mutate(one)
    assert why in str(judged(one).problems[0])


def test_each_service_has_its_line() -> None:
    text = f"services:\n  # first\n  a:\n    image: {IMAGE}\n\n  b: {{image: x}}\n"
    assert [(one.target["name"], one.line) for one in judged(text).judged] == [("a", 3), ("b", 6)]


FIELDS = (
    *("privileged", "cap_add", "cap_drop", "security_opt", "read_only", "user", "mem_limit", "cpus", "pids_limit"),
    *("ulimits", "group_add", "pid", "ipc", "uts", "userns_mode", "cgroup", "runtime", "sysctls", "dns", "ports"),
    *("restart", "devices", "device_cgroup_rules", "gpus", "deploy", "tmpfs", "volumes", "volumes_from", "secrets"),
    *("configs", "environment", "env_file", "command", "entrypoint", "labels", "healthcheck", "networks", "image"),
    *("network_mode", "post_start", "pre_stop"),
)


HUGE = "9" * 400
"""More than a floating-point number holds."""


@pytest.mark.parametrize(
    "value",
    [
        None, 0, 1.5, True, "x", "${X}", [], ["x"], {}, {"x": None}, [{"x": []}], [[]], -1, math.inf,
        math.nan, pytest.param(HUGE, id="huge"), pytest.param(int(HUGE), id="a huge number"),
    ],
)  # fmt: skip
def test_no_value_of_any_field_is_a_crash(value: Any) -> None:
    for field in FIELDS:
        one = project()
        service(one)[field] = value
        assert len(of_agent(one)) > 40
    for top in ("networks", "volumes", "secrets"):
        one = project()
        one[top] = value
        assert len(of_agent(one)) > 40
