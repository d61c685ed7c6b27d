"""ID: what the sandbox may do with the cluster's own API, and with the cloud's."""

from collections.abc import Iterator

from claude_sandbox.api.status import Severity
from claude_sandbox.compliance.containers.container import Container
from claude_sandbox.compliance.control import (
    AS_FOR_A_SANDBOX,
    ContainerCheck,
    Control,
    Evidence,
    Level,
    PodCheck,
    Undeclared,
    maps,
)
from claude_sandbox.compliance.controls.judges.ways_out import strangers
from claude_sandbox.compliance.evidence.grants import Grant
from claude_sandbox.compliance.evidence.pods import CLOUD_IDENTITIES, Access
from claude_sandbox.compliance.evidence.readings import Object
from claude_sandbox.compliance.pods.undeclared import nobodys_identity
from claude_sandbox.compliance.pods.view import View
from claude_sandbox.compliance.pods.volumes import TIGHTEST_MODE, loosest_mode
from claude_sandbox.compliance.verdict import Verdict, decided, failed, judged, not_applicable, passed, unknown

_MOST_TOLD = 3
_LONGEST_TOKEN = 3600
"""Seconds for which a sandbox's token is good at most: what the API server gives where nothing is asked for."""
_TOKEN_SOURCES = ("serviceAccountToken", "podCertificate")
"""Sources of a projected volume that are credentials of the pod's own identity."""


def pod_no_token(view: View) -> Verdict:
    """Neither mounted by default nor by a volume of its own; but for the one that its gateway alone takes."""
    problems = []
    if view.spec.get("automountServiceAccountToken") is not False:
        problems.append("the pod does not set automountServiceAccountToken to false")
    for volume in view.volumes:
        for source in (volume.get("projected") or {}).get("sources") or ():
            if view.expected.gateway is None or not _is_for(source, view.expected.gateway):
                problems += [
                    f"volume {volume.get('name')} holds a {kind}" for kind in _TOKEN_SOURCES if source.get(kind)
                ]
    return judged(problems)


def _is_for(source: Object, audience: str) -> bool:
    """Whether it is a token that nobody but this audience takes, and nothing else."""
    token = source.get("serviceAccountToken") or {}
    return source.keys() == {"serviceAccountToken"} and token.get("audience") == audience


def pod_for_gateway_alone(view: View) -> Verdict:
    """One token, which its gateway takes and the API server does not, for an hour at most, for the agent alone."""
    audience = view.expected.gateway
    if audience is None:
        return not_applicable("it has no gateway; ID-01 tells that it has no token")
    problems, held = [], []
    for volume in view.volumes:
        name = str(volume.get("name"))
        for source in (volume.get("projected") or {}).get("sources") or ():
            token = source.get("serviceAccountToken")
            if token is None:
                continue
            held.append(name)
            if token.get("audience") != audience:
                problems.append(f"volume {name} holds a token for {token.get('audience') or 'the API server'}")
            if (seconds := token.get("expirationSeconds", _LONGEST_TOKEN)) > _LONGEST_TOKEN:
                problems.append(f"the token of volume {name} is good for {seconds} s")
        if name in held and (mode := loosest_mode(volume)):
            problems.append(f"files of volume {name} have the mode {mode:04o} instead of {TIGHTEST_MODE:04o}")
    if not held:
        problems.append("it has no token by which its gateway could know it")
    problems += [
        f"container {container.name} mounts the token by which its gateway knows the agent"
        for container in view.containers
        for mount in container.spec.get("volumeMounts") or ()
        if mount.get("name") in held and container.name != view.expected.container and not view.is_cloner(container)
    ]
    return judged(problems, f"for {audience}, at most {_LONGEST_TOKEN} s")


def container_for_gateway_alone(container: Container) -> Verdict:
    """A placeholder that its own gateway takes, for the key of this moment; and nobody else is where it is known."""
    if not container.declared.gateway:
        without = (
            "nothing declares that it has a gateway" if container.declared.gateway is None else "it has no gateway"
        )
        return not_applicable(without)
    problems, doubts, place = list(strangers(container)), [], container.key_place
    if container.running and place is None:
        doubts.append("what is in the place of its key was not read")
    elif place is not None and place.current is False:
        problems.append("what is in the place of its key is for another key than the one that its gateway has")
    return decided(problems, doubts)


def pod_dedicated_account(view: View) -> Verdict:
    """An account that is the sandbox's alone, so that rights given to others are not its own."""
    account, expected = view.spec.get("serviceAccountName", "default"), view.expected.service_account
    if account == expected and account != "default":
        return judged((), account)
    if account == "default":
        return failed("the pod runs as ServiceAccount default, which is everybody's in the namespace", account)
    return failed(f"the pod runs as ServiceAccount {account} instead of {expected}", account)


def pod_no_rights(view: View) -> Verdict:
    """No role grants it anything beyond what everybody may, no authorizer allows it anything, no cloud identity."""
    annotations = (view.service_account.get("metadata") or {}).get("annotations") or {}
    grants = view.grants
    told = () if isinstance(grants, str) else grants
    problems = list(_granted(told))
    if not problems:
        by = "" if isinstance(grants, str) else ", which no role grants it"
        problems += [f"may {_described(one)}{by}" for one in view.access if one.allowed]
    problems += [f"has the cloud identity {name}" for name in CLOUD_IDENTITIES if name in annotations]
    value = f"{len(told)} granted, {len(view.access)} asked"
    if problems:
        return failed("; ".join(f"the ServiceAccount {problem}" for problem in problems), value)
    if isinstance(grants, str):
        return unknown(grants, value)
    return passed(value) if view.access else unknown("the API server was asked about no right", value)


def _granted(grants: tuple[Grant, ...]) -> Iterator[str]:
    """What is granted beyond what everybody may, the worst first."""
    found = sorted(grants, key=lambda one: one.severity, reverse=True)
    yield from (f"may {one}" for one in found[:_MOST_TOLD])
    if (more := len(found) - _MOST_TOLD) > 0:
        yield f"is granted {more} more rules"


def _described(access: Access) -> str:
    resource = f"{access.resource}/{access.subresource}" if access.subresource else access.resource
    return f"{access.verb} {resource}" + (f" of {access.group}" if access.group else "")


CONTROLS: tuple[Control, ...] = (
    Control(
        "ID-01",
        "No ServiceAccount token",
        Severity.HIGH,
        Level.SANDBOX,
        meaning="No token of a ServiceAccount is in the pod, but for the one that only its gateway takes.",
        why=(
            "By a token an agent speaks to the API server. It is mounted by default, is found at a well-known "
            "path, and is worth what its account may."
        ),
        pod=PodCheck(
            pod_no_token,
            "Set automountServiceAccountToken to false, and remove volumes that project tokens or certificates.",
            undeclared=AS_FOR_A_SANDBOX,
        ),
        mappings=maps(
            kubescape=("C-0034", "C-0190", "C-0261"),
            trivy=("KSV-0036",),
            cis_kubernetes=("5.1.6",),
            nsa=("Protecting Pod service account tokens",),
        ),
    ),
    Control(
        "ID-02",
        "ServiceAccount of its own",
        Severity.MEDIUM,
        Level.SANDBOX,
        meaning="The pod runs as a ServiceAccount that is its own.",
        why=(
            "Rights that somebody gives to the account default, or to an application's, would be the agent's as well."
        ),
        pod=PodCheck(
            pod_dedicated_account,
            "Delete the pod: it comes back with the sandbox's own ServiceAccount.",
            undeclared=Undeclared(remedy="Give the pod a ServiceAccount of its own."),
        ),
        mappings=maps(kubescape=("C-0189",), cis_kubernetes=("5.1.5",), nsa=("Protecting Pod service account tokens",)),
    ),
    Control(
        "ID-03",
        "ServiceAccount without rights",
        Severity.HIGH,
        Level.SANDBOX,
        meaning="The ServiceAccount may nothing beyond what everybody may, in the cluster and at the cloud.",
        why=(
            "Even without a token in the pod its account matters: who may create pods or tokens in the "
            "namespace gets them, and clouds give roles by annotations."
        ),
        pod=PodCheck(
            pod_no_rights,
            "Remove the role bindings and annotations that give the sandbox's ServiceAccount, or all accounts, rights.",
            needs=(Evidence.ACCESS, Evidence.SERVICE_ACCOUNT),
            weighs=(Evidence.GRANTS,),
        ),
        mappings=maps(
            kubescape=("C-0035", "C-0267", "C-0272"),
            trivy=("KSV-0041", "KSV-0044", "KSV-0046", "KSV-0053"),
            cis_kubernetes=("5.1.1", "5.1.2", "5.1.3", "5.1.4"),
            nsa=("Role-based access control",),
            nist=("4.3.1",),
        ),
    ),
    Control(
        "ID-04",
        "An identity for its gateway alone",
        Severity.HIGH,
        Level.SANDBOX,
        meaning=(
            "The sandbox has something that its own gateway takes, and nobody else; on Kubernetes a token that "
            "ends within the hour."
        ),
        why=(
            "What the agent holds can be stolen from it. It must be worth nothing elsewhere: not at the API "
            "server, not at the provider, not for another sandbox."
        ),
        pod=PodCheck(
            pod_for_gateway_alone,
            "Delete the pod: it comes back with a token for its gateway and nothing else.",
            unseen="whether the API server takes tokens for the gateway: its option --api-audiences is in no object.",
            undeclared=Undeclared(nobodys_identity),
        ),
        container=ContainerCheck(
            container_for_gateway_alone,
            "Take who is named off its network; remove the container to have a placeholder brought anew.",
        ),
    ),
)
