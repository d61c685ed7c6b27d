"""ID: what the sandbox may do with the cluster's own API, and with the cloud's."""

from claude_sandbox.api.status import Severity
from claude_sandbox.compliance.control import Control, Evidence, Level, Verdict, judged, maps, unknown
from claude_sandbox.compliance.evidence import Access
from claude_sandbox.compliance.view import View

QUESTIONS: tuple[tuple[str, str, str, str], ...] = (
    ("get", "", "pods", ""),
    ("get", "", "secrets", ""),
    ("create", "", "pods", ""),
)
"""What to ask of the sandbox's ServiceAccount: verb, API group, resource, subresource.

Few, because each is a request for each sandbox: what the built-in roles view, edit and admin grant first.
"""

_CLOUD_IDENTITIES = (
    "azure.workload.identity/client-id",
    "eks.amazonaws.com/role-arn",
    "iam.gke.io/gcp-service-account",
)
"""Annotations that give a ServiceAccount an identity at its cloud."""

_TOKEN_SOURCES = ("serviceAccountToken", "podCertificate")
"""Sources of a projected volume that are credentials of the pod's own identity."""


def no_token(view: View) -> Verdict:
    """Neither mounted by default nor by a volume of its own."""
    problems = []
    if view.spec.get("automountServiceAccountToken") is not False:
        problems.append("the pod does not set automountServiceAccountToken to false")
    for volume in view.volumes:
        for source in (volume.get("projected") or {}).get("sources") or ():
            problems += [f"volume {volume.get('name')} holds a {kind}" for kind in _TOKEN_SOURCES if source.get(kind)]
    return judged(problems)


def dedicated(view: View) -> Verdict:
    """An account that is the sandbox's alone, so that rights given to others are not its own."""
    account, expected = view.spec.get("serviceAccountName", "default"), view.expected.service_account
    if account == expected and account != "default":
        return judged((), account)
    return judged([f"the pod runs as ServiceAccount {account} instead of {expected}"], account)


def no_rights(view: View) -> Verdict:
    """Nothing that it was asked about is allowed, and no cloud identity comes with the account."""
    annotations = (view.service_account.get("metadata") or {}).get("annotations") or {}
    problems = [f"may {_described(one)}" for one in view.access if one.allowed]
    problems += [f"has the cloud identity {name}" for name in _CLOUD_IDENTITIES if name in annotations]
    if not view.access and not problems:
        return unknown("the API server was asked about no right")
    return judged([f"the ServiceAccount {problem}" for problem in problems], f"{len(view.access)} asked")


def _described(access: Access) -> str:
    resource = f"{access.resource}/{access.subresource}" if access.subresource else access.resource
    return f"{access.verb} {resource}" + (f" of {access.group}" if access.group else "")


CONTROLS = (
    Control(
        "ID-01",
        "No ServiceAccount token",
        Severity.HIGH,
        Level.SANDBOX,
        "Set automountServiceAccountToken to false, and remove volumes that project tokens or certificates.",
        no_token,
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
        "Delete the pod: it comes back with the sandbox's own ServiceAccount.",
        dedicated,
        mappings=maps(kubescape=("C-0189",)),
    ),
    Control(
        "ID-03",
        "ServiceAccount without rights",
        Severity.HIGH,
        Level.SANDBOX,
        "Remove the role bindings and annotations that give the sandbox's ServiceAccount, or all accounts, rights.",
        no_rights,
        needs=(Evidence.ACCESS, Evidence.SERVICE_ACCOUNT),
        mappings=maps(
            kubescape=("C-0035", "C-0267", "C-0272"),
            trivy=("KSV-0041", "KSV-0044", "KSV-0046", "KSV-0053"),
        ),
    ),
)
