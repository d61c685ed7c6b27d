"""A sandbox's gateway as documents of the Engine API, and what it is told. Pure.

It is on two networks: the sandbox's own, where it listens and nobody but the sandbox is, and an outer one of its own,
by which it gets out. The key and what the sandbox may do come to it on its standard input: neither is in a document of
the engine's, in a file, or in the environment, and both are gone when it ends. Accounts alone outlive it (`accounts`).
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from claude_sandbox.backends.docker.documents.hardening import ICC, companion_host
from claude_sandbox.backends.docker.engine.capabilities import EngineCapabilities
from claude_sandbox.backends.docker.engine.documents import Manifest
from claude_sandbox.backends.docker.gateway import accounts
from claude_sandbox.backends.docker.keys.gateway_texts import GatewayTexts
from claude_sandbox.backends.docker.names import GATEWAY, GATEWAY_NETWORK, LABEL_SPEC_HASH, Names, labels_of
from claude_sandbox.backends.docker.relay.relays import USER
from claude_sandbox.blueprint import agent
from claude_sandbox.blueprint.model import Blueprint, GatewayRepository, GatewayService, Identity, Image

PROGRAM = ("python3", "-I", "-m", "claude_sandbox.gateway", "--config", "-")
CHECK = ("python3", "-I", "-m", "claude_sandbox.gateway.probe")
HEALTH_PORT = 8081
"""Of the gateway's own account of itself, on its loopback; `claude_sandbox.gateway.probe` asks there."""

_MIB = 1 << 20
MOST_PUSHED = 96 * _MIB
"""Bytes of a push. It is in memory while it is read: the kernel lets the program write no file that is so large."""
MEMORY = 256 * _MIB + MOST_PUSHED
"""The program takes some 60 MiB, a push's commits and trees 48; 200 requests at once with bodies that are judged, and
their answers, the rest."""
PIDS = 64
_CPU = 1_000_000_000
"""A CPU, in the engine's NanoCpus."""
_OOM_SCORE_ADJUSTMENT = 550
"""After the sandbox itself, before what else the host runs."""
_SECOND = 1_000_000_000


@dataclass(frozen=True)
class Brokering:
    """What administrators give for gateways: their image, and what holds for all of them, in the gateway's own format
    (`provider`, `egress`, `limits`)."""

    image: Image | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


NO_BROKERING = Brokering()
KEYLESS = "none"
"""In the place of a key's generation, of a gateway that was told to use no key. No generation is called so."""


@dataclass(frozen=True)
class Gateway:
    """The documents of a gateway, its outer network and the volume of its accounts, and its configuration without the
    sandbox's identity."""

    image: Image
    container: Manifest
    network: Manifest
    accounts: Manifest
    configuration: Manifest

    def revision(self, generation: str | None) -> str:
        """What a gateway says that it follows, once it has this configuration and the key of this generation."""
        found = hashlib.sha256(orjson.dumps(self.configuration, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
        return f"{generation}.{found}"

    def is_followed(self, revision: str | None, generation: str | None) -> bool:
        """Whether a gateway that says this follows all of it; the key's generation may not be known."""
        if generation is None:
            # The fingerprint has no dot in it, and a generation may have.
            key, _, rest = (revision or "").rpartition(".")
            return revision is not None and key != KEYLESS and rest == self.revision("").rpartition(".")[2]
        return revision == self.revision(generation)


def gateway_of(
    blueprint: Blueprint,
    cluster: str,
    called: Names,
    given: Brokering,
    capabilities: EngineCapabilities,
) -> Gateway | None:
    """The gateway that the sandbox should have; None for one that holds its key, and where there is no image for it."""
    image = given.image
    if blueprint.gateway is None or image is None:
        return None
    identity = blueprint.identity
    network: Manifest = {
        "Name": called.gateway,
        "Driver": "bridge",
        "Internal": False,
        "Attachable": False,
        "Ingress": False,
        "EnableIPv6": False,
        "Options": {ICC: "false"},
        "Labels": labels_of(cluster, identity, GATEWAY_NETWORK),
    }
    volume = accounts.volume_of(identity, cluster, called)
    container = _container(identity, cluster, called, image, volume, capabilities)
    # Not of the configuration, which the gateway takes while it runs: only another container makes a new one.
    made_of = orjson.dumps([container, network], option=orjson.OPT_SORT_KEYS)
    container["Labels"][LABEL_SPEC_HASH] = hashlib.sha256(made_of).hexdigest()[:32]
    return Gateway(image, container, network, volume, _configuration(blueprint, given.settings))


def message(
    gateway: Gateway,
    key: bytes | bytearray | None,
    generation: str,
    placeholder: bytes | bytearray,
    others: GatewayTexts | None = None,
) -> bytearray:
    """The line that a gateway takes on its standard input. It holds the key, if any, and all that is in `others`."""
    sandbox = {
        **gateway.configuration["sandboxes"][0],
        "identitySHA256": [hashlib.sha256(placeholder).hexdigest()],
    }
    sandbox["credential"] = {**sandbox["credential"], "generation": generation}
    others = others or GatewayTexts()
    content = orjson.dumps(
        {
            "configuration": {**gateway.configuration, "sandboxes": [sandbox]},
            "credential": None if key is None else bytes(key).decode("utf-8", "replace"),
            "secrets": _texts(others.services),
            "unopened": dict(others.unopened),
            "git": {name: _texts(data) for name, data in others.git.items()},
            "revision": gateway.revision(generation),
        }
    )
    return bytearray(base64.b64encode(content) + b"\n")


def _texts(values: Mapping[str, bytearray]) -> dict[str, str]:
    return {name: bytes(value).decode("utf-8", "replace") for name, value in values.items()}


def taken(revision: str) -> bytes:
    """The line by which a gateway says that it follows a revision."""
    return orjson.dumps({"kind": "configuration", "revision": revision})


def _configuration(blueprint: Blueprint, settings: Mapping[str, Any]) -> Manifest:
    wanted, identity = blueprint.gateway, blueprint.identity
    assert wanted is not None  # noqa: S101 - who calls has looked
    inside = agent.GATEWAY_HOST
    return {
        "version": 1,
        "listen": {
            "broker": {"host": inside, "port": agent.BROKER_PORT},
            "proxy": {"host": inside, "port": agent.PROXY_PORT},
            "health": {"host": "127.0.0.1", "port": HEALTH_PORT},
        },
        "ledgerDirectory": accounts.DIRECTORY,
        **settings,
        "limits": _limits(settings.get("limits") or {}),
        "sandboxes": [
            {
                "uid": identity.uid,
                "namespace": identity.namespace,
                "name": identity.name,
                # Nobody else is on the network on which it listens.
                "proxyIdentity": "Network",
                "models": list(wanted.models),
                "allowedDomains": list(wanted.domains),
                "credential": {"file": "-", "kind": "OAuthToken" if wanted.oauth else "APIKey"},
                **({"services": [_service(one) for one in wanted.services]} if wanted.services else {}),
                **({"repositories": [_repository(one) for one in wanted.repositories]} if wanted.repositories else {}),
                **({"budget": wanted.budget.model_dump(by_alias=True, exclude_none=True)} if wanted.budget else {}),
            }
        ],
    }


def _limits(given: Mapping[str, Any]) -> Manifest:
    """As administrators have them, but for pushes, which are in memory, of one sandbox one at a time."""
    most = min(MOST_PUSHED, int(given.get("pushBytes", MOST_PUSHED)))
    return {**given, "pushBytes": most, "spoolBytes": most, "pushesAtOnce": 1}


def _service(service: GatewayService) -> Manifest:
    header = service.header
    return {
        "name": service.name,
        "host": service.host,
        "paths": list(service.paths),
        "methods": list(service.methods),
        "requestsPerMinute": service.per_minute,
        **({"registry": {"type": service.registry}} if service.registry is not None else {}),
        **({"header": {key: value for key, value in asdict(header).items() if value}} if header is not None else {}),
    }


def _repository(one: GatewayRepository) -> Manifest:
    push = one.push
    found: Manifest = {"url": one.url}
    if one.secret is not None:
        generation = {"generation": one.generation} if one.generation else {}
        found["credential"] = {"secret": one.secret, **generation}
    if push is not None:
        found["push"] = {
            "branches": list(push.branches),
            "force": push.force,
            "delete": push.delete,
            "protectedPaths": list(push.protected_paths),
        }
    return found


def _container(
    identity: Identity, cluster: str, called: Names, image: Image, volume: Manifest, capabilities: EngineCapabilities
) -> Manifest:
    host = companion_host(
        called.gateway,
        memory=MEMORY,
        cpu=_CPU,
        pids=PIDS,
        open_files=4096,
        logs={"max-size": "10m", "max-file": "3"},
        limits_swap=capabilities.limits_swap,
    )
    return {
        "Hostname": "gateway",
        "Image": image.reference,
        "User": USER,
        "WorkingDir": "/",
        "Env": [],
        "Labels": labels_of(cluster, identity, GATEWAY),
        "Healthcheck": {
            "Test": ["CMD", *CHECK],
            "Interval": 30 * _SECOND,
            "Timeout": 10 * _SECOND,
            "Retries": 3,
            "StartPeriod": 30 * _SECOND,
            **({"StartInterval": 2 * _SECOND} if capabilities.start_interval else {}),
        },
        "StopTimeout": 10,
        "Entrypoint": list(PROGRAM),
        "Cmd": [],
        # Without StdinOnce, so that it stays open when the operator that sent goes, for the next one.
        "OpenStdin": True,
        "HostConfig": {
            **host,
            "Mounts": [accounts.mount_of(volume)],
            "Ulimits": [*host["Ulimits"], accounts.file_size()],
            "OomScoreAdj": _OOM_SCORE_ADJUSTMENT,
        },
        "NetworkingConfig": {"EndpointsConfig": {called.gateway: {}}},
    }
