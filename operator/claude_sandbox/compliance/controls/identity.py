"""ID: what the sandbox may do with the cluster's own API, and with the cloud's."""

from collections.abc import Iterator

from claude_sandbox.api.status import Severity
from claude_sandbox.compliance.control import (
    Control,
    Evidence,
    Level,
    PodCheck,
    Undeclared,
    maps,
)
from claude_sandbox.compliance.evidence.grants import Grant
from claude_sandbox.compliance.evidence.pods import CLOUD_IDENTITIES, Access
from claude_sandbox.compliance.evidence.readings import Object
from claude_sandbox.compliance.pods.view import View
from claude_sandbox.compliance.verdict import Verdict, failed, judged, passed, unknown

_MOST_TOLD = 3
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


def pod_dedicated_account(view: View) -> Verdict:
    """An account that is the sandbox's alone, so that rights given to others are not its own."""
    account, expected = view.spec.get("serviceAccountName", "default"), view.expected.service_account
    if account == expected and account != "default":
        return judged((), account)
    return judged([f"the pod runs as ServiceAccount {account} instead of {expected}"], account)


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
        pod=PodCheck(
            pod_no_token,
            "Set automountServiceAccountToken to false, and remove volumes that project tokens or certificates.",
        ),
        mappings=maps(
            kubescape=("C-0034", "C-0190", "C-0261"),
            trivy=("KSV-0036",),
        ),
    ),
    Control(
        "ID-02",
        "ServiceAccount of its own",
        Severity.MEDIUM,
        Level.SANDBOX,
        pod=PodCheck(
            pod_dedicated_account,
            "Delete the pod: it comes back with the sandbox's own ServiceAccount.",
            undeclared=Undeclared(remedy="Give the pod a ServiceAccount of its own."),
        ),
        mappings=maps(kubescape=("C-0189",)),
    ),
    Control(
        "ID-03",
        "ServiceAccount without rights",
        Severity.HIGH,
        Level.SANDBOX,
        pod=PodCheck(
            pod_no_rights,
            "Remove the role bindings and annotations that give the sandbox's ServiceAccount, or all accounts, rights.",
            needs=(Evidence.ACCESS, Evidence.SERVICE_ACCOUNT),
            weighs=(Evidence.GRANTS,),
        ),
        mappings=maps(
            kubescape=("C-0035", "C-0267", "C-0272"),
            trivy=("KSV-0041", "KSV-0044", "KSV-0046", "KSV-0053"),
        ),
    ),
)
