"""One pod, a sandbox's or not, read once and whole: the evidence for its controls without a running operator.

Reads only. Asking what a ServiceAccount may do is a POST, of which the API server keeps nothing.
"""

import asyncio
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network

from claude_sandbox.api import meta
from claude_sandbox.api.spec import ClaudeSandboxSpec, Level, Profile
from claude_sandbox.api.validate import InvalidSpec, parse_spec
from claude_sandbox.backends.base import Past
from claude_sandbox.backends.kubernetes import drift, tools
from claude_sandbox.backends.kubernetes.evidence.declared import expected
from claude_sandbox.backends.kubernetes.evidence.pod_context import (
    Surroundings,
    now_read,
    read_one,
    read_surroundings,
)
from claude_sandbox.backends.kubernetes.evidence.single_gateway import read_gateway
from claude_sandbox.backends.kubernetes.evidence.told import with_instructions
from claude_sandbox.backends.kubernetes.objects import CONTAINER, known_endpoint
from claude_sandbox.backends.kubernetes.ownership import is_owned
from claude_sandbox.backends.kubernetes.plan import Desired, Observed, desire, plan
from claude_sandbox.blueprint.build import build, parse_image
from claude_sandbox.blueprint.model import Blueprint, Identity, Image, Site
from claude_sandbox.compliance.catalogue import POD_CONTROLS, undeclared_pod_controls
from claude_sandbox.compliance.control import Control
from claude_sandbox.compliance.evidence.exemptions import exemptions_of
from claude_sandbox.compliance.evidence.gateways import Gateway
from claude_sandbox.compliance.evidence.pods import KubernetesEvidence
from claude_sandbox.compliance.evidence.readings import Reading, Unread
from claude_sandbox.compliance.pods import undeclared
from claude_sandbox.compliance.pods.undeclared import Declarations
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import PERSISTENT_VOLUME_CLAIMS, PODS, SANDBOXES, SERVICE_ACCOUNTS
from claude_sandbox.kubernetes_api.unstructured import Object, annotations


class SurveyError(Exception):
    """There is no pod to measure; the message says why."""


@dataclass(frozen=True)
class Standard:
    """What a pod is measured against, beyond what is declared in the cluster."""

    profile: Profile | None = None
    """None: what the ClaudeSandbox says, and Development where there is none."""
    level: Level | None = None
    """None: what the ClaudeSandbox says, and Sandbox where there is none."""
    allowed_registries: tuple[str, ...] = ()
    image: Image | None = None
    """What sandboxes run that name no image; None where that is not known."""
    gateway_image: Image | None = None
    """What the operator gives gateways; None where that is not known."""
    opened: tuple[IPv4Network | IPv6Network, ...] = ()
    """The private networks that the operator's administrator lets sandboxes into."""
    plain_images: frozenset[str] = frozenset()
    """Images that declare no VOLUME."""
    declarations: Declarations = field(default_factory=Declarations)
    """Of a pod that no ClaudeSandbox declares."""


@dataclass(frozen=True)
class Survey:
    """What was read of a pod, and the controls that apply to it."""

    pod: Object
    sandbox: Object | None
    """The ClaudeSandbox that declares it."""
    evidence: KubernetesEvidence
    controls: tuple[Control, ...]
    note: str = ""
    """Why it is not measured against the ClaudeSandbox that it says it belongs to."""


async def survey_sandbox(api: Api, namespace: str, name: str, standard: Standard) -> Survey:
    """The pod of a ClaudeSandbox. Raises SurveyError where it has none, and ApiError where either can't be read."""
    sandbox = await api.get(SANDBOXES, name, namespace)
    try:
        pod = await api.get(PODS, meta.child_name(name), namespace)
    except ApiError as error:
        if error.is_not_found:
            raise SurveyError(f"ClaudeSandbox {namespace}/{name} has no pod: {_why_none(sandbox)}") from None
        raise
    if not is_owned(pod, _identity(sandbox)):
        raise SurveyError(f"the pod {namespace}/{meta.child_name(name)} is not that of the ClaudeSandbox {name}")
    return await _declared(api, pod, sandbox, standard)


async def survey_pod(api: Api, namespace: str, name: str, standard: Standard) -> Survey:
    """Any pod; a sandbox's is measured against its ClaudeSandbox. Raises ApiError where the pod can't be read."""
    pod = await api.get(PODS, name, namespace)
    owner = _owner(pod)
    if owner is None:
        return await _undeclared(api, pod, standard, "")
    try:
        sandbox = await api.get(SANDBOXES, owner, namespace)
    except ApiError as error:
        return await _undeclared(api, pod, standard, f"its ClaudeSandbox {owner} could not be read: {error.reason}")
    if not is_owned(pod, _identity(sandbox)):
        return await _undeclared(api, pod, standard, f"it belongs to an earlier ClaudeSandbox {owner}")
    if name != meta.child_name(owner):
        # What tries from beside it what can be reached, or what somebody gave that owner.
        return await _undeclared(api, pod, standard, f"it is not the workload of its ClaudeSandbox {owner}")
    return await _declared(api, pod, sandbox, standard)


async def _declared(api: Api, pod: Object, sandbox: Object, standard: Standard) -> Survey:
    try:
        spec = parse_spec(sandbox)
    except InvalidSpec as error:
        raise SurveyError(f"the spec of ClaudeSandbox {sandbox['metadata']['name']} is not valid: {error}") from None
    # What the pod itself runs stands for what is not known; drift says below that it may not be believed.
    image = standard.image or _operators_image(pod, spec)
    # What the operator was started with is not known here; whether it is enough is for PRIV-05 to say.
    strict = (pod["spec"].get("securityContext") or {}).get("supplementalGroupsPolicy") == "Strict"
    blueprint = await with_instructions(
        api, build(_identity(sandbox), spec, Site(image, standard.opened, strict)), spec
    )
    if isinstance(blueprint, str):
        raise SurveyError(f"of ClaudeSandbox {sandbox['metadata']['name']} {blueprint}")
    name, namespace = blueprint.identity.name, blueprint.identity.namespace
    around, account, claim, home = await asyncio.gather(
        read_surroundings(api, pod),
        read_one(api, SERVICE_ACCOUNTS, meta.child_name(name), namespace),
        read_one(api, PERSISTENT_VOLUME_CLAIMS, meta.workspace_name(name, blueprint.identity.workspace), namespace),
        read_one(api, PERSISTENT_VOLUME_CLAIMS, meta.home_name(name, blueprint.identity.workspace), namespace),
    )
    knows_image = standard.image is not None or (spec.image is not None and blueprint.tools is None)
    differences = _drift(blueprint, spec, pod, around, account, (claim, home), knows_image=knows_image)
    # What the operator gives sandboxes that name no image is its administrator's, who answers for it.
    own = image.reference if blueprint.tools is None else blueprint.tools.image.reference
    plain = standard.plain_images if spec.image and blueprint.tools is None else standard.plain_images | {own}
    profile, level = standard.profile or spec.profile, standard.level or spec.compliance.level
    declared = expected(blueprint, profile, standard.allowed_registries, plain, level, exemptions_of(spec.compliance))
    certain = standard.image is not None or _says_so(pod, _desired(blueprint, spec, pod).pod)
    declared = replace(declared, claude_code=declared.claude_code and replace(declared.claude_code, certain=certain))
    gateway: Reading[Gateway | None] | Unread = now_read(None)
    if blueprint.gateway is not None:
        gateway = await read_gateway(api, namespace, around, standard.gateway_image)
    return Survey(pod, sandbox, around.evidence(declared, pod, differences, gateway), POD_CONTROLS)


async def _undeclared(api: Api, pod: Object, standard: Standard, note: str) -> Survey:
    around = await read_surroundings(api, pod)
    services = () if isinstance(around.services, Unread) else around.services.value
    declared = undeclared.expected(
        pod,
        (str(service["metadata"]["name"]) for service in services),
        standard.profile or Profile.DEVELOPMENT,
        standard.allowed_registries,
        standard.plain_images,
    )
    declared = replace(declared, level=standard.level or Level.SANDBOX)
    evidence = around.evidence(declared, pod, Unread("nothing declares what it should be"), now_read(None))
    return Survey(pod, None, evidence, undeclared_pod_controls(standard.declarations), note)


def _drift(
    blueprint: Blueprint,
    spec: ClaudeSandboxSpec,
    pod: Object,
    around: Surroundings,
    account: Reading[Object | None] | Unread,
    claims: tuple[Reading[Object | None] | Unread, Reading[Object | None] | Unread],
    *,
    knows_image: bool,
) -> Reading[tuple[str, ...]] | Unread:
    """In what the live objects are not those that the operator would make, the key's generation aside."""
    if isinstance(account, Unread):
        return account
    claim, home = claims
    if isinstance(claim, Unread):
        return claim
    if isinstance(home, Unread):
        return home
    if isinstance(around.policies, Unread):
        return around.policies
    if isinstance(around.services, Unread):
        return around.services
    child = meta.child_name(blueprint.identity.name)
    desired = _desired(blueprint, spec, pod)
    observed = Observed(
        baseline=_named(around.policies.value, meta.BASELINE_POLICY),
        account=account.value,
        policy=_named(around.policies.value, child),
        service=_named(around.services.value, child),
        claim=claim.value,
        home=home.value,
        pod=pod,
    )
    wanted = plan(desired, observed, Past(provisioned=True, ran=True, settled=True))
    found = [*drift.pod_differences(desired.pod, pod), *drift.metadata_differences(desired.pod, pod)]
    found += [f"{step.kind} {step.name}" for step in wanted.steps if step.kind != "Pod"]
    found += [f"{one} is not the sandbox's own" for one in wanted.foreign]
    if not found and not knows_image and not _says_so(pod, desired.pod):
        # Compared with itself, an image that was changed in place would look right.
        return Unread("which image the operator gives sandboxes that name none is not known (--sandbox-image)")
    return now_read(tuple(found))


def _desired(blueprint: Blueprint, spec: ClaudeSandboxSpec, pod: Object) -> Desired:
    # Of its gateway the pod tells itself, and how Claude Code comes into it: what else could be is not known here.
    gateway = known_endpoint(pod) if blueprint.gateway is not None else None
    volumes = tools.has_image_volume(pod)
    return desire(blueprint, None, True, spec.update_strategy.type, gateway, image_volumes=volumes)


def _says_so(pod: Object, desired: Object) -> bool:
    """Whether the pod says that it was made from just this."""
    made_from = annotations(pod).get(meta.ANNOTATION_SPEC_HASH)
    return bool(made_from == annotations(desired)[meta.ANNOTATION_SPEC_HASH])


def _named(objects: tuple[Object, ...], name: str) -> Object | None:
    return next((one for one in objects if one["metadata"]["name"] == name), None)


def _identity(sandbox: Object) -> Identity:
    metadata = sandbox["metadata"]
    asked = ((sandbox.get("spec") or {}).get("workspace") or {}).get("instance")
    return Identity(metadata["namespace"], metadata["name"], metadata["uid"], workspace=asked)


def _owner(pod: Object) -> str | None:
    owners = pod["metadata"].get("ownerReferences") or ()
    return next((str(one["name"]) for one in owners if one.get("kind") == meta.KIND and one.get("controller")), None)


def _operators_image(pod: Object, spec: ClaudeSandboxSpec) -> Image:
    """The one that is brought into an image that the spec names, or the agent's own."""
    found = tools.image_of(pod) if spec.image is not None else None
    return found or _live_image(pod)


def _live_image(pod: Object) -> Image:
    containers: list[Object] = pod["spec"].get("containers") or [{}]
    agent = next((one for one in containers if one.get("name") == CONTAINER), containers[0])
    return parse_image(str(agent.get("image", "")), str(agent.get("imagePullPolicy", "IfNotPresent")))


def _why_none(sandbox: Object) -> str:
    placement = (sandbox.get("status") or {}).get("placement")
    if placement:
        container = ((sandbox.get("status") or {}).get("workload") or {}).get("name", "NAME")
        return (
            f"it is on DockerHost {placement.get('host')}; measure it there with `claude-sandbox check container "
            f"{container}` and --host"
        )
    if (sandbox.get("spec") or {}).get("operatingMode") == "Suspended":
        return "it is suspended"
    conditions = (sandbox.get("status") or {}).get("conditions") or ()
    told = [f"{one.get('reason')}: {one.get('message')}" for one in conditions if one.get("type") == "Ready"]
    return told[0] if told else "no operator has looked at it yet"
