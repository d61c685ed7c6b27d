"""The pod that probes: a twin of the sandbox's to the network, and nothing is believed of another."""

import copy
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from claude_sandbox.api.validate import parse_spec
from claude_sandbox.backends.kubernetes import objects
from claude_sandbox.backends.kubernetes.probing import pod as probing
from claude_sandbox.backends.kubernetes.probing.report import question, report_of
from claude_sandbox.backends.kubernetes.probing.targets import (
    MOST,
    ClusterAddresses,
    Place,
    place_of,
    targets,
)
from claude_sandbox.backends.probing.wanted import NO_PORT, MisunderstoodError, Named, Wanted
from claude_sandbox.blueprint.build import build, parse_image
from claude_sandbox.blueprint.model import Blueprint, Identity, Image, Site
from claude_sandbox.compliance.evidence.probes import Expected
from claude_sandbox.probe import VERSION, strict
from claude_sandbox.probe.kernel import ATTEMPTS
from claude_sandbox.probe.outcomes import Code, ending
from claude_sandbox.probe.pod import LARGEST_MESSAGE, understood

IMAGE = Image("registry.example/operator@sha256:" + "b" * 64, None, "IfNotPresent")
IDENTITY = Identity("agents", "alice", "00000000-0000-4000-8000-000000000001")
CLUSTER = ClusterAddresses((("10.0.0.1", 6443), ("10.96.0.1", 443)), "10.96.0.10")
GATEWAY = objects.Endpoint("10.96.7.7", "-----BEGIN CERTIFICATE-----")

Object = dict[str, Any]


def blueprint(**spec: Any) -> Blueprint:
    given = {"credentials": {"apiKeySecretRef": {"name": "key"}}, **spec}
    site = Site(parse_image("registry.example/claude@sha256:" + "a" * 64, "IfNotPresent"))
    return build(IDENTITY, parse_spec({"spec": given}), site)


def running(**spec: Any) -> Object:
    """A sandbox's pod as it is on a node."""
    made = copy.deepcopy(objects.pod(blueprint(**spec), None, GATEWAY))
    made["metadata"] |= {"uid": "u-1", "labels": {**made["metadata"]["labels"], "team": "x"}}
    made["spec"]["nodeName"] = "node-7"
    made["status"] = {"phase": "Running", "podIP": "10.244.0.5", "hostIP": "192.168.1.7"}
    return made


def made_of(sandbox: Object) -> tuple[Object, Object]:
    """What is asked for, and what an API server makes of it."""
    body = probing.document(IDENTITY, sandbox, IMAGE, "probe-alice-1", "{}")
    made = copy.deepcopy(body)
    made["metadata"] |= {"uid": "p-1", "generation": 1}
    made["spec"]["serviceAccount"] = made["spec"]["serviceAccountName"]
    return body, made


def ended_of(made: Object) -> Object:
    ended = copy.deepcopy(made)
    state = {"terminated": {"exitCode": 0, "message": "said"}}
    ended["status"] = {"phase": "Succeeded", "containerStatuses": [{"restartCount": 0, "state": state}]}
    return ended


def test_a_probe_is_to_the_network_what_the_sandbox_is() -> None:
    sandbox = running()
    body, made = made_of(sandbox)
    assert body["metadata"]["labels"] == sandbox["metadata"]["labels"]
    for part in ("nodeName", "serviceAccountName"):
        assert body["spec"][part] == sandbox["spec"][part]
    assert probing.changed_on_admission(body, made, sandbox) == ""
    assert probing.touched(made, ended_of(made)) == ""


def test_a_probe_is_never_ready_holds_nothing_and_ends() -> None:
    spec = made_of(running())[0]["spec"]
    assert spec["readinessGates"]
    assert "volumes" not in spec
    assert spec["automountServiceAccountToken"] is False
    assert spec["restartPolicy"] == "Never"
    assert spec["activeDeadlineSeconds"] > 0


ADMISSIONS: dict[str, Callable[[Object], Any]] = {
    "a label more": lambda made: made["metadata"]["labels"].update(injected="true"),
    "a label less": lambda made: made["metadata"]["labels"].pop("team"),
    "another network": lambda made: made["metadata"].update(annotations={"k8s.v1.cni.cncf.io/networks": "other"}),
    "another node": lambda made: made["spec"].update(nodeName="node-8"),
    "another account": lambda made: made["spec"].update(serviceAccountName="other", serviceAccount="other"),
    "another runtime": lambda made: made["spec"].update(runtimeClassName="other"),
    "the node's network": lambda made: made["spec"].update(hostNetwork=True),
    "another container": lambda made: made["spec"]["containers"].append({"name": "sidecar", "image": "x"}),
    "another image": lambda made: made["spec"]["containers"][0].update(image="x"),
    "another command": lambda made: made["spec"]["containers"][0].update(command=["true"]),
    "a container before": lambda made: made["spec"].update(initContainers=[{"name": "sidecar", "image": "x"}]),
}


@pytest.mark.parametrize("name", ADMISSIONS)
def test_what_admission_made_another_proves_nothing(name: str) -> None:
    sandbox = running()
    body, made = made_of(sandbox)
    ADMISSIONS[name](made)
    assert probing.changed_on_admission(body, made, sandbox)


TOUCHES: dict[str, Callable[[Object], Any]] = {
    **{name: change for name, change in ADMISSIONS.items() if name not in ("another node",)},
    "another pod of that name": lambda ended: ended["metadata"].update(uid="p-2"),
    "changed and changed back": lambda ended: ended["metadata"].update(generation=3),
    "a container beside it": lambda ended: ended["spec"].update(ephemeralContainers=[{"name": "x", "image": "x"}]),
    "a deadline": lambda ended: ended["spec"].update(activeDeadlineSeconds=1),
    "a restart": lambda ended: ended["status"]["containerStatuses"][0].update(restartCount=1),
    "no container": lambda ended: ended["status"].update(containerStatuses=[]),
}


@pytest.mark.parametrize("name", TOUCHES)
def test_what_somebody_touched_proves_nothing(name: str) -> None:
    _, made = made_of(running())
    ended = ended_of(made)
    TOUCHES[name](ended)
    assert probing.touched(made, ended)


def wanted_of(**spec: Any) -> dict[str, Wanted]:
    sandbox, meant = running(**spec), blueprint(**spec)
    place = place_of(sandbox, ())
    assert place is not None
    return {one.name: one for one in targets(meant, sandbox, place, CLUSTER)}


def test_each_denied_target_has_a_control() -> None:
    found = wanted_of()
    assert {"its gateway", "the API server at 10.0.0.1:6443", "the kubelet at 192.168.1.7"} <= found.keys()
    assert [one.name for one in found.values() if one.expected is not Expected.ALLOWED and not one.elsewhere] == []
    assert found["the API server at 10.0.0.1:6443"].expected is Expected.DENIED


def test_what_is_declared_is_not_denied() -> None:
    credentials = {"apiKeySecretRef": {"name": "key"}, "delivery": "Mounted"}
    egress = {"allowedCIDRs": ["93.184.216.0/24"], "dns": True}
    sandbox = running(credentials=credentials, network={"egress": egress})
    meant = blueprint(credentials=credentials, network={"egress": egress})
    place = place_of(sandbox, ())
    assert place is not None
    named = [Named("93.184.216.34", 443), Named("93.184.216.34", 22), Named("192.0.2.7", 443)]
    found = {one.name: one for one in targets(meant, sandbox, place, CLUSTER, named=named)}
    assert "93.184.216.34, port 443" not in found
    assert found["93.184.216.34, port 22"].expected is Expected.DENIED
    assert found["192.0.2.7, port 443"].expected is Expected.DENIED
    assert found["the cluster's resolver over UDP"].expected is Expected.ALLOWED


def test_what_is_declared_is_a_control_where_it_is_one_address() -> None:
    """Of a network nobody can tell who answers. It is tried from the sandbox's place, and from nowhere else."""
    egress = {"allowedCIDRs": ["93.184.216.34/32", "93.184.217.0/24"], "dns": False}
    found = wanted_of(network={"egress": egress})
    permitted = [one for one in found.values() if one.expected is Expected.PERMITTED]
    assert [(one.host, one.port) for one in permitted] == [("93.184.216.34", 443)]
    assert not any(one.elsewhere or one.by_node for one in permitted)


def test_what_administrators_name_is_tried_as_they_say() -> None:
    kinds = [("10.0.0.5", 853), ("10.0.0.5", 53, "dns-udp"), ("10.0.0.5", 443, "quic"), ("10.0.0.5", NO_PORT, "icmp")]
    wanted = [Named(*one).wanted() for one in kinds]  # type: ignore[misc]
    assert [one.name for one in wanted] == [
        "10.0.0.5, port 853", "10.0.0.5, port 53 (dns-udp)", "10.0.0.5, port 443 (quic)", "10.0.0.5 (icmp)",
    ]  # fmt: skip
    assert [bool(one.query) for one in wanted] == [False, True, False, False]
    assert all(one.expected is Expected.DENIED and one.elsewhere and one.by_node for one in wanted)
    assert len(understood(question(wanted, 3.0, 15.0)).others) == 4


def test_the_place_changes_with_what_matters() -> None:
    policy = {"metadata": {"name": "a", "uid": "1", "generation": 1}}
    before = place_of(running(), [policy])
    assert isinstance(before, Place)
    assert place_of(running(), [policy]) == before
    other = running()
    other["metadata"]["labels"]["team"] = "y"
    assert place_of(other, [policy]) != before
    assert place_of(running(), [{"metadata": {**policy["metadata"], "generation": 2}}]) != before
    assert place_of(running(), []) != before
    # Of a plugin's policies not all servers count generations.
    plugin = {"metadata": {"uid": "1"}, "spec": {"egress": []}, "specs": None}
    with_plugin = place_of(running(), [policy], [plugin])
    assert with_plugin != before
    assert place_of(running(), [policy], [copy.deepcopy(plugin)]) == with_plugin
    for change in ({"spec": {"egress": [{}]}}, {"specs": [{}]}, {"metadata": {"uid": "2"}}):
        assert place_of(running(), [policy], [plugin | change]) != with_plugin
    gone = running()
    gone["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    pending = running()
    pending["status"]["phase"] = "Pending"
    assert place_of(gone, []) is place_of(pending, []) is place_of(None, []) is None


WANTED = (
    Wanted("its gateway", "10.96.7.7", 8443, Expected.ALLOWED),
    Wanted("the API server", "10.0.0.1", 6443, Expected.DENIED, elsewhere=True),
)


KERNEL = [[name, "denied", "EPERM"] for name in ATTEMPTS]


def said(*outcomes: str, self: str = "connected", **change: Any) -> str:
    attempts = [["self", self, "", 0], *([str(number), one, "", 5] for number, one in enumerate(outcomes))]
    told = {"version": VERSION, "attempts": attempts, "open": 1200, "kernel": KERNEL, "strict": [], **change}
    return orjson.dumps(told).decode()


def kernel(outcome: str) -> list[list[str]]:
    """The same with one call that came to this."""
    return [*KERNEL[:-1], [KERNEL[-1][0], outcome, ""]]


def test_a_report_is_what_was_said() -> None:
    report = report_of(0, said("connected", "timeout"), WANTED, {"the API server": True})
    assert report.able
    assert [one.outcome for one in report.tried] == ["connected", "timeout"]
    assert [one.answers for one in report.tried] == [None, True]
    assert report.open_seconds == 2
    assert isinstance(report.kernel, tuple)
    assert {one.outcome for one in report.kernel} == {"denied"}


@pytest.mark.parametrize("outcome", ["possible", "failed"])
def test_what_the_kernel_lets_it_do_is_told_by_the_exit_code_too(outcome: str) -> None:
    code, message = ending(Code.AS_MEANT, [outcome, "denied"]), said("connected", "timeout", kernel=kernel(outcome))
    report = report_of(code, message, WANTED, {"the API server": True})
    assert isinstance(report.kernel, tuple)
    assert report.kernel[-1].outcome == outcome


NARROW = [[name, "denied", "EPERM"] for name in strict.ATTEMPTS]


@pytest.mark.parametrize("outcome", ["denied", "possible", "failed"])
def test_what_strict_alone_refuses_is_told_where_it_is_asked_for_and_by_the_exit_code_too(outcome: str) -> None:
    told = said("connected", "timeout", strict=[[NARROW[0][0], outcome, ""], *NARROW[1:]])
    code = ending(Code.AS_MEANT, ["denied"], [outcome, "denied"])
    report = report_of(code, told, WANTED, {}, strict=True)
    assert isinstance(report.strict, tuple)
    assert report.strict[0].outcome == outcome
    assert isinstance(report_of(0, said("connected", "timeout"), WANTED, {}).strict, str)
    for forged, asked in ((told, False), (said("connected", "timeout"), True)):
        with pytest.raises(MisunderstoodError):
            report_of(code, forged, WANTED, {}, strict=asked)
    # What could be made is another call than the message says, of the other kind.
    if outcome == "possible":
        other = said("connected", "timeout", kernel=kernel("possible"), strict=NARROW)
        with pytest.raises(MisunderstoodError, match="exit code"):
            report_of(code, other, WANTED, {}, strict=True)


def test_a_sandbox_that_is_confined_otherwise_is_not_stood_for() -> None:
    sandbox = running()
    _, made = made_of(sandbox)
    assert probing.unlike(made, sandbox) == ""
    for change in (
        {"privileged": True},
        {"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}},
        {"seccompProfile": {"type": "Unconfined"}},
        {"appArmorProfile": {"type": "Unconfined"}},
        {"procMount": "Unmasked"},
    ):
        other = copy.deepcopy(sandbox)
        other["spec"]["containers"][0]["securityContext"].update(change)
        assert next(iter(change)) in probing.unlike(made, other)
        # And no probe is made less confined for it.
        assert made_of(other)[0]["spec"]["containers"] == made["spec"]["containers"]


FORGED: dict[str, tuple[int, str]] = {
    "denied, though the code says reached": (Code.REACHED, said("connected", "timeout")),
    "denied, though it was killed": (137, said("connected", "timeout")),
    "denied, though something could not be tried": (Code.UNCERTAIN, said("connected", "timeout")),
    "refused, though the code says that a call is possible": (
        ending(Code.AS_MEANT, ["possible"]),
        said("connected", "timeout"),
    ),
    "possible, though the code says refused": (0, said("connected", "timeout", kernel=kernel("possible"))),
    "one call less": (0, said("connected", "timeout", kernel=KERNEL[1:])),
    "another call": (0, said("connected", "timeout", kernel=[["x", "denied", ""], *KERNEL[1:]])),
    "no calls": (0, said("connected", "timeout", kernel=None)),
    "denied, though it was not understood": (Code.NOT_TRIED, said("connected", "timeout")),
    "reached, though the code says denied": (0, said("connected", "connected")),
    "another version": (0, said("connected", "timeout", version=VERSION + 1)),
    "one target less": (0, said("connected")),
    "one target more": (0, said("connected", "timeout", "timeout")),
    "a word of its own": (0, said("connected", "denied")),
    "no time": (0, said("connected", "timeout", open=-1)),
    "no JSON": (0, "denied"),
    "another document": (0, "[]"),
    "too long": (0, said("connected", "timeout") + " " * LARGEST_MESSAGE),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_message_that_is_not_the_programs_is_not_believed(name: str) -> None:
    with pytest.raises(MisunderstoodError):
        report_of(*FORGED[name], WANTED, {"the API server": True})


def test_a_question_is_understood_and_the_longest_answer_fits() -> None:
    many = tuple(Wanted(f"t{n}", "2001:db8::1", 443, Expected.DENIED, "dns-udp", query="a.b") for n in range(MOST))
    asked = understood(question(many, 3.0, 15.0))
    assert len(asked.others) == MOST
    assert len(said(*["unreachable"] * MOST)) + MOST * len("EADDRNOTAVAIL99999") < LARGEST_MESSAGE
