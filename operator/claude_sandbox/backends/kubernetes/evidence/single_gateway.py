"""The gateway of one sandbox's namespace, read once and whole, without a running operator. Reads only.

What administrators give gateways is not in the cluster but for what runs: their image has to be told by who asks, and
their settings are taken for meant as they are found.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import orjson

from claude_sandbox.api import meta
from claude_sandbox.api.mishap import mishap
from claude_sandbox.api.named_secrets import has_gateway, secrets_named
from claude_sandbox.backends.kubernetes.evidence.pod_context import Surroundings, now_read, read_grants, read_one
from claude_sandbox.backends.kubernetes.gateway.evidence import Read, gateway_of
from claude_sandbox.backends.kubernetes.gateway.objects import SELECTOR, Brokering, Wish
from claude_sandbox.blueprint.build import parse_image
from claude_sandbox.blueprint.model import Image
from claude_sandbox.compliance.evidence.gateways import Gateway
from claude_sandbox.compliance.evidence.pods import SLICE_OF
from claude_sandbox.compliance.evidence.readings import Reading, Unread
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import (
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    ENDPOINT_SLICES,
    NETWORK_POLICIES,
    PODS,
    ROLE_BINDINGS,
    ROLES,
    SANDBOXES,
    SERVICE_ACCOUNTS,
    SERVICES,
    Resource,
)
from claude_sandbox.kubernetes_api.unstructured import Object, annotations

_KINDS = (SERVICE_ACCOUNTS, ROLES, ROLE_BINDINGS, NETWORK_POLICIES, SERVICES, DISRUPTION_BUDGETS, DEPLOYMENTS)
_SECTIONS = ("provider", "egress", "limits")
"""What of a gateway's configuration its administrator gives."""
_NO_IMAGE = "which image the operator gives gateways is not known (--gateway-image)"


async def read_gateway(
    api: Api, namespace: str, around: Surroundings, image: Image | None
) -> Reading[Gateway | None] | Unread:
    """The gateway as it runs; Unread where what is there raises. `image`: what the operator gives gateways; None: not
    known."""
    try:
        return await _read(api, namespace, around, image)
    except Exception as error:  # noqa: BLE001 - what is raised depends on what was read
        return Unread(mishap(error))


async def _read(
    api: Api, namespace: str, around: Surroundings, image: Image | None
) -> Reading[Gateway | None] | Unread:
    by_component = ",".join(f"{name}={value}" for name, value in SELECTOR.items())
    found, sandboxes, pods, slices, grants = await asyncio.gather(
        asyncio.gather(*(read_one(api, one, meta.GATEWAY, namespace) for one in _KINDS)),
        _listed(api, SANDBOXES, namespace, None),
        _listed(api, PODS, namespace, by_component),
        _listed(api, ENDPOINT_SLICES, namespace, f"{SLICE_OF}={meta.GATEWAY}"),
        read_grants(api, namespace, meta.GATEWAY),
    )
    for one in found:
        if isinstance(one, Unread):
            return one
    if isinstance(sandboxes, str):
        return Unread(f"which Secrets sandboxes of the namespace name: {sandboxes}")
    live = [one.value for one in found if not isinstance(one, Unread)]
    objects = {kind.kind: one for kind, one in zip(_KINDS, live, strict=True) if one is not None}
    deployment = objects.get("Deployment")
    if deployment is None:
        return Unread(f"there is no Deployment {meta.GATEWAY}")
    with_gateway = [one for one in sandboxes if has_gateway(one)]
    readable = frozenset(name for one in with_gateway for name in secrets_named(one))
    given = Brokering(image or parse_image(_image_of(deployment), "IfNotPresent"), _settings(deployment))
    if image is not None:
        # How a node gets it is none of what is measured.
        policy = str(_container_of(deployment).get("imagePullPolicy") or image.pull_policy)
        given = Brokering(Image(image.reference, image.digest, policy), given.settings)
    # Credentials of services are lent by a pod's address, which the gateway has to see then.
    lends = any((one.get("spec") or {}).get("services") for one in with_gateway)
    wish = replace(_wish(namespace, readable, objects), pods=lends)
    read = Read(
        pods=pods,
        policies=_value(around.policies),
        services=_value(around.services),
        slices=slices,
        grants=grants.reason if isinstance(grants, Unread) else grants.value,
    )
    doubts = () if image is not None else (_NO_IMAGE,)
    gateway = gateway_of(wish, given, readable, objects, read, minor=around.minor, doubts=doubts)
    return now_read(gateway)


def _wish(namespace: str, readable: frozenset[str], objects: Mapping[str, Object]) -> Wish:
    """What it is made for, as far as what runs tells: which of the Secrets opted in, and which certificate it has."""
    deployment = objects["Deployment"]
    template = deployment["spec"]["template"]
    held = {str((one.get("secret") or {}).get("secretName")) for one in template["spec"].get("volumes") or ()}
    rules = (objects.get("Role") or {}).get("rules") or ()
    read = {str(name) for rule in rules for name in rule.get("resourceNames") or ()}
    mounted = bool(held & readable)
    return Wish(
        namespace,
        frozenset((held if mounted else read) & readable),
        mounted,
        annotations(template).get(meta.ANNOTATION_GATEWAY_CERTIFICATE, ""),
        ((objects.get("Service") or {}).get("spec") or {}).get("clusterIP"),
    )


def _container_of(deployment: Object) -> Object:
    containers = deployment["spec"]["template"]["spec"].get("containers") or [{}]
    return containers[0]  # type: ignore[no-any-return]


def _image_of(deployment: Object) -> str:
    return str(_container_of(deployment).get("image", ""))


def _settings(deployment: Object) -> dict[str, object]:
    text = annotations(deployment["spec"]["template"]).get(meta.ANNOTATION_GATEWAY, "")
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return {name: document[name] for name in _SECTIONS if name in document} if isinstance(document, dict) else {}


def _value(reading: Reading[tuple[Object, ...]] | Unread) -> tuple[Object, ...] | str:
    return reading.reason if isinstance(reading, Unread) else reading.value


async def _listed(api: Api, resource: Resource, namespace: str, selector: str | None) -> tuple[Object, ...] | str:
    try:
        return tuple((await api.list(resource, namespace, label_selector=selector)).items)
    except ApiError as error:
        return f"{resource}: {error.reason}"
