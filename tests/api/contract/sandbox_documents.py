"""Generated ClaudeSandboxes: good ones, and ones that somebody got wrong in some way."""

import copy
import random
import string
from collections.abc import Callable, Iterator
from typing import Any

from claude_sandbox.api import meta, networks

Json = Any
Path = tuple[str | int, ...]

_DIGEST = "sha256:" + "0123456789abcdef" * 4
_LONG = "x" * 5000

# For each field: values around its limits, right and wrong.
POOLS: dict[str, list[Json]] = {
    "profile": ["Development", "Production", "production", ""],
    "operatingMode": ["Running", "Suspended", "Paused"],
    "pullPolicy": ["Always", "IfNotPresent", "Never", "always"],
    "type": ["Kubernetes", "Docker", "PersistentVolumeClaim", "EmptyDir", "OnDelete", "Recreate", "emptyDir"],
    "retention": ["Retain", "Delete", "Keep"],
    "readOnly": [True, False, "true", 1],
    "dns": [True, False, "yes", 0],
    "cpu": [
        "100m", "99m", "99.999m", "100.001m", "0.1", "0.099", "2", 2, 2.0, 1, 0, -1, 512, 513, "512", "512.001",
        "512001m", "1k", "1e1", "+1", "-1", "1.", ".5", " 2", "2 ", "2\n", "0.1234", "000000000001", "1234567890123",
        "100u", "1Ki", "512Mi", "٢", "2 CPU", "", "m", 1.5, 1e3, 2**63, 10**12,
    ],
    "memory": [
        "256Mi", "255.999Mi", "268435456", 268435456, 268435455, "268435455.999", "0.25Gi", "268435456000m", "2Gi",
        "2gi", "2GB", "2G", "16Ti", "16Ti1", "16.001Ti", "17592186044416", 17592186044416, 17592186044417, "-2Gi",
        "1e9", "512", 512, "1Ei", "0.001Pi", "999999999999Pi", "2 Gi", 2.5e9, 3e9,
    ],
    "ephemeralStorage": ["64Mi", "63Mi", "64Ti", "65Ti", "8Gi", 8, 8589934592, "8", "0.0625Gi", "67108864.001"],
    "size": ["16Mi", "15Mi", "1Pi", "1.001Pi", "10Gi", "10", 10, 0, -5, "10 GiB", "0.5", "1Ti", "16777216", "1024Ti"],
    "storageClassName": ["standard", "", "Standard", "a.b-c", "a..b", "-a", "a" * 253, "a" * 254, "local path"],
    "repository": [
        "claude", "team/claude", "registry.example.com/team/claude", "registry.example.com:5000/claude",
        "localhost:5000/x", "claude:1", "claude@" + _DIGEST, "Claude", "Registry.example.com/claude", "a//b", "/a",
        "a/", "a__b", "a___b", "a.b/c--d", "a..b/c", "a_.b", "[::1]:5000/x", "x:123456/y", "a" * 255, "a" * 256, "",
        "a b", "ä/b", "claude\n", "-a/b", "a-/b", "https://a/b",
    ],
    "tag": ["latest", "2.1.331", "", "-a", ".a", "_a", "a" * 128, "a" * 129, "a:b", "a b", "ä", "A_b-C.d"],
    "digest": [_DIGEST, _DIGEST.upper(), _DIGEST[:-1], _DIGEST + "0", "sha512:" + "0" * 64, "", _DIGEST + "\n"],
    "key": ["api-key", ".", "..", "..a", ".a", "a..b", "_", "-", "a/b", "", "a" * 253, "a" * 254, "Key_1.x", "ключ"],
    "containerPort": [1024, 1023, 65535, 65536, 8080, 8080.0, 8080.5, "8080", 0, -1, 2**31, 2**63, 2**64, 1e4, True],
    "value": [
        "", "plain", "x" * 4096, "x" * 4097, "ü" * 4096, "😀" * 2048, "a\nb", "\u0000", "sk-ant-api03-abc",
        "task-ant-1", "ghp_" + "a" * 36, "ghp_short", "xghp_" + "a" * 20, "github_pat_" + "A" * 22,
        "AKIAIOSFODNN7EXAMPLE", "xAKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPL", "xoxb-1234-abcd", "xox-1234",
        "-----BEGIN RSA PRIVATE KEY-----", "-----BEGIN PRIVATE KEY", "-----BEGIN CERTIFICATE-----",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.abc", "eyJhbGciOiJIUzI1NiJ9", "Bearer abcdefghijklmnop",
        "bearer of news", "https://user:pw@example.com/x", "https://example.com:8080/@x", "//:@", "//:p@",
        "AIza" + "b" * 35, "AIza" + "b" * 34, "sk-" + "c" * 20, "risk-" + "c" * 20, "SG." + "d" * 16,
        "hvs." + "e" * 20, "AccountKey=" + "f" * 20, "token=hunter2", "TOKEN=hunter2", "TOKEN=$X", 'TOKEN="$X"',
        "TOKEN='x'", "export GITHUB_TOKEN=abc", "--api-key=abc", "--api-key", "--api-key x", "--max-tokens=5",
        "PASSWORD=", "API_KEY= x", "glpat-" + "g" * 16, "npm_" + "h" * 30, "pypi-" + "i" * 40, "hf_" + "j" * 30,
        "ya29." + "k" * 20, "AGE-SECRET-KEY-1", "\u017fk-ant-", "SK-ANT-x",
    ],
    "allowedCIDRs": [
        "10.0.0.0/8", "10.0.0.0/7", "10.0.0.1/8", "10.1.2.3/32", "10.1.2.3", "0.0.0.0/0", "::/0", "8.0.0.0/8",
        "2000::/16", "2000::/15", "2001:db8::/32", "2001:DB8::/32", "2001:db8:0:0::/64", "2001:db8::1/64",
        "2001:0db8::/32", "::ffff:10.0.0.0/104", "::ffff:a00:0/104", "::10.0.0.0/104", "::a00:0/104", "::/16",
        "127.0.0.1/32", "126.0.0.0/8", "169.254.169.254/32", "169.254.0.0/16", "169.253.0.0/16", "168.0.0.0/7",
        "169.0.0.0/8", "100.100.100.200/32", "100.64.0.0/10", "100.96.0.0/11", "168.63.129.16/32", "224.0.0.0/8",
        "240.0.0.0/8", "255.255.255.255/32", "fe80::/16", "fec0::/16", "ff02::/16", "fd00::/16", "fd00:ec2::/32",
        "fd00:ec2::254/128", "fd20:ce::254/128", "64:ff9b::a9fe:a9fe/128", "64:ff9b::/96", "::1/128", "::/128",
        "::2/127", "10.0.0.0/08", "10.0.0.0/255.0.0.0", "010.0.0.0/8", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0/8",
        " 10.0.0.0/8", "10.0.0.0/8\n", "10.0.0.0/ 8", "\uff110.0.0.0/8", "fe80::1%eth0/64", "2001:db8::/129",
        "2001:db8:0:1:0:0:0:1/128", "2001:db8:0:1::1/128", "2001:0:0:1::/64", "2001:0:0:1:0:0:0:0/64",
        "2001::1:0:0:1:0/112", "2001:0:0:1:0:0:1:0/112", "api.anthropic.com", "", "/", "x/8", "192.0.2.0/24",
        "198.51.100.0/24", "172.16.0.0/12", "172.16.0.0/16", "192.168.0.0/16", *networks.ANTHROPIC_CIDRS,
    ],
}  # fmt: skip

_ENV_NAMES = [
    "FOO", "foo", "_", "a1", "1a", "A-B", "A.B", "", "Ä", "A" * 128, "A" * 129, "A\n", "ANTHROPIC_API_KEY",
    "anthropic_api_key", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN", "GITHUB_TOKEN", "TOKEN", "TOKENS",
    "MAX_THINKING_TOKENS", "CLAUDE_CODE_MAX_OUTPUT_TOKENS", "TOKENIZERS_PARALLELISM", "DB_PASSWORD", "PGPASSWORD",
    "OLDPWD", "MYSQL_PWD", "CLIENT_SECRET", "AWS_SECRET_ACCESS_KEY", "AWS_BEARER_TOKEN_BEDROCK", "AWS_REGION",
    "CACHE_KEY", "SSH_KEY", "SENTRY_DSN", "BASIC_AUTH", "AUTHOR", "HOME", "HOME_DIR", "PATH", "PYTHONPATH",
    "LD_PRELOAD", "LD_", "NODE_OPTIONS", "NODE_ENV", "NODE_EXTRA_CA_CERTS", "BUN_OPTIONS", "KUBERNETES_SERVICE_HOST",
    "KUBECONFIG", "DISABLE_TELEMETRY", "DISABLE_PROMPT_CACHING", "ANTHROPIC_BASE_URL", "ANTHROPIC_VERTEX_BASE_URL",
    "ANTHROPIC_MODEL", "ANTHROPIC_CUSTOM_HEADERS", "CLAUDE_CONFIG_DIR", "CLAUDE_CODE_USE_BEDROCK", "HTTPS_PROXY",
    "CLAUDE_CODE_ENABLE_TELEMETRY", "https_proxy", "to\u212aen", "CLAUDE_SANDBOX_X", "CLAUDE_CODE_SHELL",
]  # fmt: skip
_PORT_NAMES = ["http", "HTTP", "8080", "a", "-a", "a-", "a-b", "a--b", "x" * 15, "x" * 16, "", "ü", "h2", "2-h", "h\n"]
_NAMES = [
    "a", "alice", "a-b", "a.b", "-a", "a-", "A", "a" * 45, "a" * 46, "a" * 63, "a" * 253, "a_b", "0", "ä", "x--y",
]  # fmt: skip
_SECRET_NAMES = [
    "sk-ant-api03-x",
    "key",
    "a.b",
    "Key",
    "a/b",
    "",
    "other/key",
    "a" * 253,
    "a" * 254,
    "a..b",
    "key\n",
    "a_b",
    "0",
]
_ANYTHING: list[Json] = [
    None, True, False, 0, 1, -1, 1.5, 2.0, 1e300, 2**70, "", "x", "0", "true", "null", "ü", "😀", "\u0000", "\n",
    " ", _LONG, [], {}, [None], [[]], [{}], {"": ""}, {"a": None}, [1, "x"], ["x"], {"name": "x"},
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
        "backend": lambda: rng.choice(({}, {"type": "Kubernetes"})),
        "operatingMode": lambda: rng.choice(("Running", "Suspended")),
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
        "updateStrategy": lambda: rng.choice(({}, {"type": "OnDelete"}, {"type": "Recreate"})),
    }
    spec |= _some(rng, optional)
    if production:
        spec["profile"] = "Production"
    name = "".join(rng.choices(string.ascii_lowercase + string.digits, k=rng.choice((1, 8, 45))))
    return {"apiVersion": meta.API_VERSION, "kind": meta.KIND, "metadata": {"name": name}, "spec": spec}


def mutate(rng: random.Random, document: Json) -> None:
    """Spoil one thing, or replace it by another right one."""
    if rng.random() < 0.05:
        document["metadata"]["name"] = rng.choice(_NAMES)
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
    parents: dict[str, tuple[str, ...]] = {
        "profile": (), "operatingMode": (), "type": ("workspace",), "retention": ("workspace",),
        "readOnly": ("workspace",), "size": ("workspace",), "storageClassName": ("workspace",), "cpu": ("resources",),
        "memory": ("resources",), "ephemeralStorage": ("resources",), "repository": ("image",), "tag": ("image",),
        "digest": ("image",), "pullPolicy": ("image",), "dns": ("network", "egress"),
        "allowedCIDRs": ("network", "egress"), "key": ("credentials", "apiKeySecretRef"),
    }  # fmt: skip
    field = rng.choice([*parents, "args", "command", "env", "ports"])
    value = rng.choice(POOLS.get(field, [""]))
    target = spec
    for step in parents.get(field, ("network",) if field == "ports" else ()):
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
        value = [{"name": rng.choice(_ENV_NAMES), "value": rng.choice(POOLS["value"])}]
    elif field == "ports":
        value = [
            {"name": rng.choice(_PORT_NAMES), "containerPort": rng.choice((8080, 8081, 9000))}
            for _ in range(rng.choice((1, 2)))
        ]
    target[field] = value


def _pool(path: Path) -> list[Json]:
    fields = [step for step in path if isinstance(step, str)]
    match fields[-1]:
        case "name":
            return {"env": _ENV_NAMES, "ports": _PORT_NAMES}.get(fields[-2], _SECRET_NAMES)
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
    return POOLS.get(fields[-1], _ANYTHING)


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
        image["digest"] = _DIGEST
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
        "dns": lambda: rng.choice((True, False)),
    }
    ports = [{"name": f"p{i}", "containerPort": 8000 + i} for i in range(rng.choice((0, 1, 32)))]
    return _some(rng, {"egress": lambda: _some(rng, egress), "ports": lambda: ports})
