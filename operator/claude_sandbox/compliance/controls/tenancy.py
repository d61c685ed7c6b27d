"""TEN: whose namespace the sandbox is in."""

from claude_sandbox.api.status import Severity
from claude_sandbox.compliance.control import (
    PRODUCTION,
    Control,
    Evidence,
    Level,
    PodCheck,
    maps,
)
from claude_sandbox.compliance.pods.view import View
from claude_sandbox.compliance.verdict import Verdict, failed, judged, passed, unknown

_ENFORCE = "pod-security.kubernetes.io/enforce"
_ENFORCE_VERSION = "pod-security.kubernetes.io/enforce-version"
_FIRST_WHOLE_MINOR = 23
"""Before Kubernetes 1.23 `restricted` did not yet refuse runAsUser 0, the last of the checks that matter here."""
_SYSTEM_PREFIXES = ("kube-", "openshift-")


def pod_dedicated_namespace(view: View) -> Verdict:
    """Not a namespace that the cluster or everyone uses. Whether others use it too, the namespace does not tell."""
    name = str((view.namespace.get("metadata") or {}).get("name", ""))
    if not name:
        return unknown("the namespace was read without its name")
    if name == "default":
        return failed("default is where everything goes that names no namespace", name)
    if name.startswith(_SYSTEM_PREFIXES) or name == "openshift":
        return failed(f"{name} belongs to the cluster itself", name)
    return passed(name)


def pod_admission(view: View) -> Verdict:
    """The API server itself refuses pods in this namespace that are not restricted, whoever makes them."""
    labels = (view.namespace.get("metadata") or {}).get("labels") or {}
    level, version = labels.get(_ENFORCE, "none"), labels.get(_ENFORCE_VERSION, "latest")
    value = f"{level}:{version}"
    problems = []
    if level != "restricted":
        problems.append(f"the namespace enforces the level {level}")
    elif not _is_whole(version):
        problems.append(f"the namespace enforces the standard as it was in {version}")
    return judged(problems, value)


def _is_whole(version: str) -> bool:
    """Whether the standard in `version` has all checks. The API server takes what it can't read for latest."""
    _, _, minor = version.partition("v1.")
    return not minor.isdecimal() or int(minor) >= _FIRST_WHOLE_MINOR


CONTROLS: tuple[Control, ...] = (
    Control(
        "TEN-01",
        "Not in a namespace of the cluster's own",
        Severity.MEDIUM,
        Level.SANDBOX,
        meaning="The sandbox is in a namespace for sandboxes, and not in default or one of the cluster's own.",
        why=(
            "In kube-system a pod is trusted by policies and admission, and everything that is let through for "
            "the cluster is let through for the agent."
        ),
        pod=PodCheck(
            pod_dedicated_namespace,
            "Move the sandbox to a namespace for sandboxes.",
            needs=(Evidence.NAMESPACE,),
        ),
        required=PRODUCTION,
        mappings=maps(
            kubescape=("C-0212",),
            trivy=("KSV-0037", "KSV-0110"),
            cis_kubernetes=("5.6.1", "5.6.4"),
            nsa=("Namespaces",),
            nist=("4.3.4",),
        ),
    ),
    Control(
        "TEN-02",
        "Namespace enforces the restricted standard",
        Severity.MEDIUM,
        Level.SANDBOX,
        meaning=(
            "The API server itself refuses pods of this namespace that the restricted Pod Security Standard refuses."
        ),
        why=(
            "It is the wall that does not depend on the operator: nobody who may create pods there can put a "
            "privileged one beside the sandbox."
        ),
        pod=PodCheck(
            pod_admission,
            f"Label the namespace {_ENFORCE}=restricted.",
            needs=(Evidence.NAMESPACE,),
        ),
        required=PRODUCTION,
        mappings=maps(
            kubescape=("C-0192", "C-0193", "C-0197"),
            cis_kubernetes=("5.2.1",),
            nsa=("Pod security enforcement",),
            nist=("4.4.3",),
        ),
    ),
)
