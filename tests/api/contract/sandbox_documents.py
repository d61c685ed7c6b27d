"""Generated ClaudeSandboxes: good ones, and ones that somebody got wrong in some way."""

import copy
import random
import string
from collections.abc import Callable, Iterator
from typing import Any

from field_values import (
    APP_ARMOR_PROFILES,
    BACKENDS,
    BACKUPS,
    BUDGETS,
    CREDENTIALS,
    DIGEST,
    ENV_NAMES,
    HOST_NAMES,
    IN_PRODUCTION,
    INCIDENTS,
    LIFECYCLES,
    MATCH_LABELS,
    NAMES,
    PARENTS,
    POOLS,
    PORT_NAMES,
    REPOSITORIES,
    RESTORES,
    SECCOMP_PROFILES,
    SECRET_NAMES,
    SECURITIES,
    SERVICES,
    document,
    placed,
)

from claude_sandbox.api import networks

Json = Any
Path = tuple[str | int, ...]

_ANYTHING: list[Json] = [
    None, True, False, 0, 1, -1, 1.5, 2.0, 1e300, 2**70, "", "x", "0", "true", "null", "ü", "😀", "\u0000", "\n",
    " ", "x" * 5000, [], {}, [None], [[]], [{}], {"": ""}, {"a": None}, [1, "x"], ["x"], {"name": "x"},
]  # fmt: skip


def documents(seed: int, count: int) -> Iterator[Json]:
    """`count` documents, the same for the same seed. About half of them are good."""
    for index in range(count):
        rng = random.Random(f"{seed}/{index}")  # noqa: S311
        document = good(rng)
        for _ in range(rng.choice((0, 0, 1, 1, 1, 2, 3))):
            mutate(rng, document)
        yield document


def good(rng: random.Random) -> Json:
    """A document that should be accepted, with some of the optional fields."""
    production = rng.random() < 0.3
    spec: Json = {"credentials": {"apiKeySecretRef": {"name": rng.choice(("key", "a.b", "k" * 253))}}}
    optional: dict[str, Callable[[], Json]] = {
        "profile": lambda: "Development",
        "backend": lambda: rng.choice(({}, {"type": "Kubernetes"}, *BACKENDS[:2], BACKENDS[6])),
        "operatingMode": lambda: rng.choice(("Running", "Suspended")),
        "incident": lambda: copy.deepcopy(rng.choice(INCIDENTS[:4])),
        "restoreFrom": lambda: copy.deepcopy(rng.choice(RESTORES[:2])),
        "lifecycle": lambda: copy.deepcopy(rng.choice(LIFECYCLES[:2])),
        "image": lambda: _image(rng, production),
        "command": lambda: rng.choice(([], ["claude"], ["sh", "-c", "exec claude"])),
        "args": lambda: _words(rng, 64),
        "env": lambda: [
            {"name": f"VARIABLE_{i}", **_some(rng, {"value": lambda: rng.choice(("", "plain", "ü"))})}
            for i in range(rng.choice((0, 1, 3, 64)))
        ],
        "resources": lambda: _some(
            rng,
            {
                "cpu": lambda: rng.choice((1, 4, "500m", "1.5", "100m")),
                "memory": lambda: rng.choice(("256Mi", "4Gi", 2**30, "1500M")),
                "ephemeralStorage": lambda: rng.choice(("64Mi", "8Gi", 10**10)),
            },
        ),
        "workspace": lambda: _workspace(rng, production),
        "network": lambda: _network(rng),
        "security": lambda: copy.deepcopy(rng.choice(SECURITIES[:3])),
        "updateStrategy": lambda: rng.choice(({}, {"type": "OnDelete"}, {"type": "Recreate"})),
    }
    spec |= _some(rng, optional)
    if production:
        spec |= copy.deepcopy(IN_PRODUCTION)
    if spec.get("backend", {}).get("type") == "Docker":
        spec.get("workspace", {}).pop("storageClassName", None)
        spec |= _behind_a_gateway(rng, spec["credentials"]) if rng.random() < 0.5 else {}
    elif rng.random() < 0.3:
        spec["repositories"] = copy.deepcopy(rng.choice(REPOSITORIES[:3]))
    if spec.get("backend", {}).get("type") != "Docker" and "security" in spec:
        spec["security"] = copy.deepcopy(rng.choice(SECURITIES[1:3]))
    if (
        not production
        and spec.keys().isdisjoint({"model", "budget", "services", "repositories"})
        and "apiKeySecretRef" in spec["credentials"]
    ):
        spec["credentials"] |= rng.choice(({}, {"delivery": "Mounted"}))
    name = "".join(rng.choices(string.ascii_lowercase + string.digits, k=rng.choice((1, 8, 45))))
    return document(name, placed(spec))


def _behind_a_gateway(rng: random.Random, credentials: Json) -> Json:
    named = {"oauthTokenSecretRef": credentials["apiKeySecretRef"]} if rng.random() < 0.3 else credentials
    optional: dict[str, Callable[[], Json]] = {
        "model": lambda: {"allowed": ["claude-sonnet-*"]},
        "budget": lambda: copy.deepcopy(rng.choice(BUDGETS[:3])),
        "services": lambda: copy.deepcopy(rng.choice(SERVICES[:4])),
    }
    return {"credentials": {**named, "delivery": "Brokered"}, **_some(rng, optional)}


def mutate(rng: random.Random, document: Json) -> None:
    """Spoil one thing, or replace it by another right one."""
    if rng.random() < 0.05:
        document["metadata"]["name"] = rng.choice(NAMES)
        return
    if not isinstance(document.get("spec"), dict):
        return  # spoilt as much as can be
    path = rng.choice(list(_paths(document["spec"], ("spec",))))
    parent = _at(document, path[:-1])
    kind = rng.random()
    if kind < 0.45:
        parent[path[-1]] = copy.deepcopy(rng.choice(_pool(path)))
    elif kind < 0.65:
        parent[path[-1]] = copy.deepcopy(rng.choice(_ANYTHING))
    elif kind < 0.75:
        del parent[path[-1]]
    elif kind < 0.85:
        _extend(rng, parent[path[-1]])
    else:
        _add_field(rng, document["spec"])


def _extend(rng: random.Random, value: Json) -> None:
    if isinstance(value, dict):
        value[rng.choice(("unknown", "Name", "name ", "", "hostPath", "size", "tag"))] = rng.choice(_ANYTHING)
    elif isinstance(value, list) and value:
        copies = rng.choice((1, 1, 60, 70))
        value.extend(copy.deepcopy(rng.choice(value)) for _ in range(copies))


def _add_field(rng: random.Random, spec: Json) -> None:
    # A field of interest with a value of interest, wherever it belongs.
    field = rng.choice([*PARENTS, "args", "command", "env", "ports", "security"])
    value = rng.choice(POOLS.get(field, [""]))
    target = spec
    for step in PARENTS.get(field, ("network",) if field == "ports" else ()):
        if not isinstance(target, dict):
            return
        target = target.setdefault(step, {})
    if not isinstance(target, dict):
        return
    if field == "allowedCIDRs":
        value = rng.sample(POOLS[field], rng.choice((1, 1, 2, 3)))
    elif field in {"args", "command"}:
        value = [rng.choice(POOLS["value"]) for _ in range(rng.choice((1, 2, 9, 16, 17)))]
    elif field == "env":
        value = [{"name": rng.choice(ENV_NAMES), "value": rng.choice(POOLS["value"])}]
    elif field == "security":
        value = copy.deepcopy(rng.choice(SECURITIES))
    elif field == "ports":
        value = [
            {"name": rng.choice(PORT_NAMES), "containerPort": rng.choice((8080, 8081, 9000))}
            for _ in range(rng.choice((1, 2)))
        ]
    target[field] = value


_WHOLE: dict[str, list[Json]] = {
    "backend": BACKENDS,
    "backup": BACKUPS,
    "budget": BUDGETS,
    "incident": INCIDENTS,
    "lifecycle": LIFECYCLES,
    "matchLabels": MATCH_LABELS,
    "repositories": REPOSITORIES,
    "restoreFrom": RESTORES,
    "seccompProfile": SECCOMP_PROFILES,
    "appArmorProfile": APP_ARMOR_PROFILES,
    "security": SECURITIES,
    "services": SERVICES,
}
"""For what is exchanged whole."""


def _pool(path: Path) -> list[Json]:
    fields = [step for step in path if isinstance(step, str)]
    match fields[-1]:
        case "name":
            named = {"env": ENV_NAMES, "ports": PORT_NAMES, "hostRef": HOST_NAMES}
            return named.get(fields[-2], SECRET_NAMES)
        case "credentials":
            return [*CREDENTIALS, *({**one, "delivery": "Brokered"} for one in CREDENTIALS)]
        case "args" | "command":
            return [["x"] * 64, ["x"] * 65, ["y" * 4096] * 8, ["y" * 4096] * 9, *POOLS["value"], [], [""]]
        case "allowedCIDRs" if isinstance(path[-1], str):
            return [
                [],
                POOLS["allowedCIDRs"][:3],
                ["192.0.2.0/24"] * 2,
                [f"10.{i}.0.0/16" for i in range(64)],
                [f"10.{i}.0.0/16" for i in range(65)],
            ]
    return _WHOLE.get(fields[-1]) or POOLS.get(fields[-1], _ANYTHING)


def _paths(value: Json, path: Path) -> Iterator[Path]:
    yield path
    items: Iterator[tuple[str | int, Json]] = iter(())
    if isinstance(value, dict):
        items = iter(value.items())
    elif isinstance(value, list):
        items = iter(list(enumerate(value))[:3])
    for key, child in items:
        yield from _paths(child, (*path, key))


def _at(value: Json, path: Path) -> Json:
    for step in path:
        value = value[step]
    return value


def _some(rng: random.Random, optional: dict[str, Callable[[], Json]]) -> Json:
    density = rng.choice((0.1, 0.5, 0.9))
    return {name: make() for name, make in optional.items() if rng.random() < density}


def _words(rng: random.Random, most: int) -> Json:
    words = ("-p", "fix the tests", "--output-format", "stream-json", "", "ü", "--max-turns=5")
    return [rng.choice(words) for _ in range(rng.choice((0, 1, 5, most)))]


def _image(rng: random.Random, production: bool) -> Json:
    image: Json = {"repository": rng.choice(("claude", "registry.example.com:5000/team/claude"))}
    if production or rng.random() < 0.5:
        image["digest"] = DIGEST
    if "digest" not in image or rng.random() < 0.5:
        image["tag"] = "2.1.331"
    return image | _some(rng, {"pullPolicy": lambda: rng.choice(("Always", "IfNotPresent", "Never"))})


def _workspace(rng: random.Random, production: bool) -> Json:
    if not production and rng.random() < 0.3:
        return {"type": "EmptyDir", **_some(rng, {"size": lambda: "1Gi", "readOnly": lambda: False})}
    optional: dict[str, Callable[[], Json]] = {
        "type": lambda: "PersistentVolumeClaim",
        "size": lambda: rng.choice(("16Mi", "10Gi", 2**30)),
        "storageClassName": lambda: "fast",
        "readOnly": lambda: True if production else rng.choice((True, False)),
        "retention": lambda: rng.choice(("Retain", "Delete")),
    }
    return _some(rng, optional)


def _network(rng: random.Random) -> Json:
    cidrs = ("10.1.0.0/16", "192.0.2.0/24", "2001:db8::/32", "203.0.113.7/32", *networks.ANTHROPIC_CIDRS)
    egress: dict[str, Callable[[], Json]] = {
        "allowedCIDRs": lambda: rng.sample(cidrs, rng.choice((0, 1, 3))),
        "allowedPorts": lambda: rng.choice(([443], [22, 443], list(range(1, 33)))),
        "dns": lambda: rng.choice((True, False)),
    }
    ports = [{"name": f"p{i}", "containerPort": 8000 + i} for i in range(rng.choice((0, 1, 32)))]
    found = _some(rng, egress)
    if not found.get("allowedCIDRs"):
        # Ports are those of networks.
        found.pop("allowedPorts", None)
    return _some(rng, {"egress": lambda: found, "ports": lambda: ports})
