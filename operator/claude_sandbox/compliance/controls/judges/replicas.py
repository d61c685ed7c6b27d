"""A pod of a namespace's gateway, measured as a sandbox is: it holds what no sandbox may."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

from claude_sandbox.api.spec import Profile
from claude_sandbox.api.status import EvidenceSource, Result
from claude_sandbox.compliance.control import PodJudge
from claude_sandbox.compliance.controls.filesystem import pod_read_only_root
from claude_sandbox.compliance.controls.namespaces import pod_joined
from claude_sandbox.compliance.controls.privilege import pod_foreign_containers, pod_groups
from claude_sandbox.compliance.controls.resources import pod_limited
from claude_sandbox.compliance.controls.secrets import pod_environment
from claude_sandbox.compliance.evidence.gateways import Meant, Replica
from claude_sandbox.compliance.evidence.pods import Expected, KubernetesEvidence
from claude_sandbox.compliance.evidence.readings import Object, Reading, Unread
from claude_sandbox.compliance.pods.pod_security import violations
from claude_sandbox.compliance.pods.policy_size import OUTSIZE, name_of
from claude_sandbox.compliance.pods.view import View
from claude_sandbox.compliance.pods.volumes import secrets_of
from claude_sandbox.compliance.verdict import guarded

AS_A_SANDBOX: tuple[tuple[str, PodJudge], ...] = (
    ("PRIV-05", pod_groups),
    ("PRIV-08", pod_foreign_containers),
    ("NS-05", pod_joined),
    ("FS-01", pod_read_only_root),
    ("RES-01", pod_limited("memory")),
    ("RES-02", pod_limited("cpu")),
    ("SEC-01", pod_environment),
)
"""The controls of a sandbox's pod that a gateway's has to pass, beside the restricted Pod Security Standard."""
_TOKEN_SECONDS = 3607
"""How long its token is good at most: what a kubelet asks for by itself."""
_ROOT_CA = "kube-root-ca.crt"
_TOLD = 5
_NEVER = datetime.min.replace(tzinfo=UTC)


def measured(one: Replica, meant: Meant, minor: int) -> tuple[list[str], list[str]]:
    """What is wrong with a pod that has the labels of the gateway, and what of it can't be told."""
    name = f"the pod {name_of(one.pod)} of its gateway"
    if OUTSIZE in one.pod:
        return [f"{name} is not judged: {one.pod[OUTSIZE]}; delete it"], []
    problems, doubts = [], []
    if one.differences and one.replaced:
        doubts.append(f"{name} is of an earlier revision, and is being replaced")
    elif one.differences:
        told = ", ".join(one.differences[:_TOLD]) + (" and more" if len(one.differences) > _TOLD else "")
        problems.append(f"the pod {name_of(one.pod)} has the labels of its gateway and is none of it: {told}")
    problems += [f"{name}: {found.detail}" for found in violations(one.pod, "restricted", minor)]
    view = View(_evidence(one.pod, meant, minor))
    for control, judge in AS_A_SANDBOX:
        if control == "PRIV-05" and unstarted(one.pod):
            # Which groups a pod has, its node tells when it runs.
            continue
        verdict = guarded(partial(judge, view))
        if verdict.result is Result.FAIL:
            problems.append(f"{name}: {verdict.message} ({control})")
        elif verdict.result is Result.UNKNOWN:
            doubts.append(f"{name}: {verdict.message} ({control})")
    found = [*_identity(view, meant), *_mounted(view, meant, earlier=one.replaced)]
    found += [] if one.replaced else _image(view, meant)
    return [*problems, *(f"{name} {problem}" for problem in found)], doubts


def unstarted(pod: Object) -> bool:
    """Whether nothing of the pod has run yet."""
    return (pod.get("status") or {}).get("phase") in (None, "Pending")


def _identity(view: View, meant: Meant) -> Iterator[str]:
    """Its own account, and one token of it for the API server."""
    account = view.spec.get("serviceAccountName", "default")
    if account != meant.name:
        yield f"runs as ServiceAccount {account}"
    if view.spec.get("automountServiceAccountToken") is not False:
        yield "does not set automountServiceAccountToken to false"
    for source in _projected(view):
        token = source.get("serviceAccountToken")
        if source.get("podCertificate"):
            yield "holds a certificate"
        if token is not None and token.get("audience"):
            yield f"holds a token for {token['audience']}"
        if token is not None and (seconds := token.get("expirationSeconds", 3600)) > _TOKEN_SECONDS:
            yield f"holds a token that is good for {seconds} s"


def _mounted(view: View, meant: Meant, *, earlier: bool) -> Iterator[str]:
    """Its configuration, certificate and token, room for pushes, and where nobody may read Secrets by the API those
    that it needs."""
    for volume in view.volumes:
        name = volume.get("name")
        if volume.keys() == {"name", "emptyDir"}:
            # Where it has pushes while it reads them. It begins empty, and nobody else has it.
            if not (volume["emptyDir"] or {}).get("sizeLimit"):
                yield f"has the volume {name}, which may grow without a bound"
            continue
        if not {"secret", "downwardAPI", "projected"} & volume.keys():
            yield f"has the volume {name}, which it does not need"
        if not earlier:
            yield from (f"has the Secret {one}" for one in secrets_of(volume) if one not in meant.mounted)
    for source in _projected(view):
        if (source.get("configMap") or {}).get("name", _ROOT_CA) != _ROOT_CA:
            yield f"has the ConfigMap {source['configMap']['name']}"


def _image(view: View, meant: Meant) -> Iterator[str]:
    """The operator's own, wherever it was taken from; and its digest is what runs, where the node tells digests."""
    digest = meant.image.rpartition("@")[2] if "@" in meant.image else ""
    for container in view.containers:
        named, running = str(container.spec.get("image", "")), str(container.status.get("imageID", ""))
        if named != meant.image and not (digest and named.endswith(f"@{digest}")):
            yield f"has another image than the operator gives: {named}"
        elif digest and "@" in running and not running.endswith(f"@{digest}"):
            yield "runs another image than it names"


def _projected(view: View) -> Iterator[Object]:
    for volume in view.volumes:
        yield from (volume.get("projected") or {}).get("sources") or ()


def _evidence(pod: Object, meant: Meant, minor: int) -> KubernetesEvidence:
    """What the judges of a sandbox's pod need of this one."""
    nothing = Unread("it is not a sandbox's")
    return KubernetesEvidence(
        expected=Expected(
            service_account=meant.name,
            api_key_secret="",
            container=meant.container,
            ports=meant.ports,
            egress_cidrs=(),
            dns=True,
            image_digest=None,
            allowed_registries=(),
            workspace_path="",
            workspace_read_only=False,
            workspace_claim=None,
            policy_names=frozenset(),
            service_names=frozenset(),
            profile=Profile.PRODUCTION,
        ),
        pod=Reading(pod, EvidenceSource.LIVE_OBJECT, _NEVER),
        namespace=nothing,
        policies=nothing,
        services=nothing,
        slices=nothing,
        service_account=nothing,
        access=nothing,
        grants=nothing,
        runtime_class=nothing,
        quotas=nothing,
        gateway=nothing,
        drift=nothing,
        now=_NEVER,
        max_age=timedelta(0),
        minor=minor,
    )
