"""Generated DockerHosts: good ones, and ones that somebody got wrong in some way."""

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

from field_values import MATCH_LABELS, NAMES, SECRET_NAMES

from claude_sandbox.api import meta
from claude_sandbox.api.crds import definitions

Json = Any

ENDPOINTS: list[Json] = [
    "unix:///var/run/docker.sock", "unix://var/run/docker.sock", "unix:///", "unix:////a", "unix:///a//b", "unix://",
    "unix:///a b", "unix:///a?x", "unix:///" + "a" * 106, "unix:///" + "a" * 107, "unix:///a/../b", "unix:///a\n",
    "UNIX:///a", "/var/run/docker.sock", "", "unix", "npipe:////./pipe/docker_engine", "fd://", "http://a:2375",
    "https://a:2376", "tcp://a:2376", "tcp://a", "tcp://a:", "tcp://a:0", "tcp://a:65535", "tcp://a:65536",
    "tcp://a:02376", "tcp://:2376", "tcp://a:2376/", "tcp://a:2376/v1", "tcp://a.b-c.example:1", "tcp://-a:1",
    "tcp://a..b:1", "tcp://192.0.2.1:2376", "tcp://[2001:db8::1]:2376", "tcp://2001:db8::1:2376", "tcp://[::1]",
    "tcp://u@a:2376", "tcp://u:p@a:2376", "tcp://" + "a" * 320, "tcp://ü:2376", "tcp://a:2376\n", "tcp://a:2376,b:1",
    "ssh://a", "ssh://docker@a", "ssh://docker@a:22", "ssh://docker:pw@a", "ssh://@a", "ssh://docker@", "ssh://",
    "ssh://docker@a:22/var/run/docker.sock", "ssh://-oProxyCommand=x@a", "ssh://-a", "ssh://docker@-a", "ssh://a b",
    "ssh://docker@[2001:db8::1]:2222", "ssh://a:99999", "ssh://" + "u" * 32 + "@a", "ssh://" + "u" * 33 + "@a",
]  # fmt: skip

_LOCAL = {"endpoint": "unix:///var/run/docker.sock"}
_TLS = {"endpoint": "tcp://a:2376", "credentialsSecretRef": {"name": "a"}}

VALUES: dict[str, list[Json]] = {
    "endpoint": ENDPOINTS,
    "credentialsSecretRef": [{}, {"name": "a"}, "a", {"name": "a", "namespace": "b"}, {"name": "a", "key": "b"}]
    + [{"name": name} for name in SECRET_NAMES],
    "insecure": [True, False, "true", 1],
    "unschedulable": [True, False, "yes", 0],
    "drain": [True, False, "no"],
    "incident": [
        {"state": "None"}, {"state": "HostCompromised"}, {"state": "Quarantined"}, {"state": "hostcompromised"}, {},
        {"state": "HostCompromised", "note": "a" * 512}, {"state": "HostCompromised", "note": "a" * 513}, None, [],
        {"state": "HostCompromised", "note": None}, {"note": "a"}, {"state": "HostCompromised", "since": "x"}, "None",
        *({"state": "HostCompromised", "since": since} for since in (
            "2027-03-31T18:00:00Z", "2027-02-30T18:00:00Z", "2027-03-31T18:00:00+01:00", "2027-03-31", "", 7, None,
        )),
        {"state": "HostCompromised", "note": "sk-ant-api03-" + "A" * 40},
    ],
    "capacity": [
        {}, {"sandboxes": 1}, {"sandboxes": 0}, {"sandboxes": 10_000}, {"sandboxes": 10_001}, {"sandboxes": "3"},
        {"sandboxes": 2.5}, {"cpu": 4}, {"cpu": "99m"}, {"cpu": "4096"}, {"cpu": "4097"}, {"cpu": "4 CPU"},
        {"memory": "256Mi"}, {"memory": "64Ti"}, {"memory": "65Ti"}, {"memory": "8"}, {"memory": "8GB"}, {"pods": 3},
        {"sandboxes": None, "cpu": None}, [], "4",
    ],
    "images": [
        {}, {"allowed": []}, {"allowed": [{}]}, {"allowed": None}, {"allowed": ["a.b"]}, {"removeUnused": False},
        {"removeUnusedAfterHours": -1}, {"removeUnusedAfterHours": 8760}, {"removeUnusedAfterHours": 8761},
        {"removeUnusedAfterHours": "1"}, {"allowed": [{"repository": "a.b", "requireDigest": True}]},
        {"allowed": [{"repository": "a.b"}] * 64}, {"allowed": [{"repository": "a.b"}] * 65},
        {"credentials": [{"repository": "a.b"}]}, {"credentials": [{"secretRef": {"name": "a"}}]},
        *(
            {"allowed": [{"repository": one}]} for one in (
                "*", "a", "a.b", "a.b/c", "a.b/c:1", "a/b", "localhost", "localhost/a", "a:1", "a:123456", "A.B/c",
                "a.b/C", "a.b/", "a.b/c__d", "a.b/c___d", "[::1]", "[::1]:5/a", "[::g]", "a.b/*", "", "a" * 252 + ".b",
                "a" * 254 + ".b", "-a.b", "a..b", "a.b@sha256:1", "http://a.b", "a.b/c\n",
            )
        ),
        *({"credentials": [{"repository": one, "secretRef": {"name": "a"}}]} for one in ("*", "a.b", "a")),
    ],
    "storage": [
        {}, {"sizes": "Required"}, {"sizes": "IfPossible"}, {"sizes": "required"}, {"size": "1Gi"}, [], None,
    ],
    "allowedRuntimes": [
        [], ["runsc"], ["io.containerd.runsc.v1", "kata-runtime"], ["runsc", "runsc"], ["Runsc"], [""], ["a/b"],
        "runsc", ["a" * 253], ["a" * 254], [1], [f"r{i}" for i in range(16)], [f"r{i}" for i in range(17)], None,
    ],
    "backupDirectory": [
        "/srv/backups", "/b", "/", "", "srv", "/srv/", "/srv//b", "/srv/../b", "/srv/.b", "/srv/b.c-d_e", "/a b", "/ü",
        "/" + "a" * 199, "/" + "a" * 200, 1, None, "/a\n", "/-a", "/a:/b",
    ],
    "allowedNamespaces": [
        {}, {"names": []}, {"names": ["a"]}, {"names": ["a" * 63]}, {"names": ["a" * 64]}, {"names": ["A"]},
        {"names": ["*"]}, {"names": [""]}, {"names": [f"n{i}" for i in range(64)]}, {"names": "a"}, {"names": [1]},
        {"names": [f"n{i}" for i in range(65)]}, {"names": ["a", "a"]}, {"selector": {}}, {"selector": None}, [], "all",
        {"names": ["a"], "selector": {"matchLabels": {"a": "b"}}}, {"namespaces": ["a"]},
        *({"selector": {"matchLabels": labels}} for labels in MATCH_LABELS),
    ],
}  # fmt: skip


def host_document(name: str, spec: Json) -> Json:
    return {"apiVersion": meta.API_VERSION, "kind": definitions.HOST.kind, "metadata": {"name": name}, "spec": spec}


def hosts_one_by_one() -> Iterator[Json]:
    """Each value of each field alone in otherwise good documents, over a socket and over TLS."""
    for field, values in VALUES.items():
        for value in values:
            for around in (_LOCAL, _TLS, {"endpoint": "ssh://docker@a"}, {"endpoint": "tcp://a:1", "insecure": True}):
                yield host_document("a", copy.deepcopy({**around, field: value}))
    for name in [*NAMES, "a" * 64]:
        yield host_document(name, copy.deepcopy(_LOCAL))
    yield host_document("a", {})
    yield {key: value for key, value in host_document("a", {}).items() if key != "spec"}


def host_documents(seed: int, count: int) -> Iterator[Json]:
    """`count` documents, the same for the same seed. About half of them are good."""
    for index in range(count):
        rng = random.Random(f"{seed}/{index}")  # noqa: S311
        spec = _good(rng)
        for _ in range(rng.choice((0, 0, 1, 1, 1, 2, 3))):
            _spoil(rng, spec)
        yield host_document("".join(rng.choices("abc012", k=rng.choice((1, 8, 63)))), spec)


def _good(rng: random.Random) -> Json:
    spec = copy.deepcopy(
        rng.choice((_LOCAL, _TLS, {"endpoint": "ssh://a"}, {**_TLS, "endpoint": "ssh://docker@a:2222"}))
    )
    optional: dict[str, Callable[[], Json]] = {
        "capacity": lambda: rng.choice(({}, {"sandboxes": 20}, {"cpu": "64", "memory": "256Gi"})),
        "unschedulable": lambda: rng.choice((True, False)),
        "storage": lambda: rng.choice(({}, {"sizes": "Required"}, {"sizes": "IfPossible"})),
        "drain": lambda: rng.choice((True, False)),
        "incident": lambda: {"state": rng.choice(("None", "HostCompromised"))},
        "images": lambda: rng.choice(({}, {"allowed": [{"repository": "a.b/c"}]}, {"removeUnused": False})),
        "allowedNamespaces": lambda: rng.choice(
            ({}, {"names": ["agents"]}, {"selector": {"matchLabels": {"team": "a"}}, "names": ["a", "b"]})
        ),
    }
    return spec | {name: make() for name, make in optional.items() if rng.random() < 0.5}


def _spoil(rng: random.Random, spec: Json) -> None:
    match rng.choice(("value", "value", "remove", "unknown", "odd")):
        case "value":
            field = rng.choice(list(VALUES))
            spec[field] = copy.deepcopy(rng.choice(VALUES[field]))
        case "remove" if spec:
            del spec[rng.choice(list(spec))]
        case "unknown":
            spec[rng.choice(("tls", "Endpoint", "host", "allowAllNamespaces"))] = rng.choice((True, "x", {}))
        case _:
            spec[rng.choice(list(VALUES))] = rng.choice((None, 1, "x", [], {}, {"a": None}, [None], 1e300, "\u0000"))
