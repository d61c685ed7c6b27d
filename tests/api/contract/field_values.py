"""Values around the limits of each field, right and wrong, and documents that have one of them each."""

import copy
import itertools
from collections.abc import Iterator
from typing import Any

from claude_sandbox.api import meta, networks

Json = Any

DIGEST = "sha256:" + "0123456789abcdef" * 4

# For each field: values around its limits, right and wrong.
POOLS: dict[str, list[Json]] = {
    "profile": ["Development", "Production", "production", ""],
    "operatingMode": ["Running", "Suspended", "Paused"],
    "pullPolicy": ["Always", "IfNotPresent", "Never", "always"],
    "type": ["Kubernetes", "Docker", "PersistentVolumeClaim", "EmptyDir", "OnDelete", "Recreate", "emptyDir",
             "RuntimeDefault", "Strict", "Unconfined"],
    "level": ["Baseline", "Restricted", "Sandbox", "Hardened", "sandbox", "Strict", "", 1, True, None, ["Sandbox"]],
    "retention": ["Retain", "Delete", "Keep"],
    "instance": [1, 2, 99, 100, 0, -1, "2", 2.5, None, True],
    "readOnly": [True, False, "true", 1],
    "writableReason": ["it writes code", "", "x" * 256, "x" * 257, "é" * 256, "sk-ant-api03-" + "a" * 40, None, 1],
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
        "localhost:5000/x", "claude:1", "claude@" + DIGEST, "Claude", "Registry.example.com/claude", "a//b", "/a",
        "a/", "a__b", "a___b", "a.b/c--d", "a..b/c", "a_.b", "[::1]:5000/x", "x:123456/y", "a" * 255, "a" * 256, "",
        "a b", "ä/b", "claude\n", "-a/b", "a-/b", "https://a/b",
    ],
    "tag": ["latest", "2.1.331", "", "-a", ".a", "_a", "a" * 128, "a" * 129, "a:b", "a b", "ä", "A_b-C.d"],
    "digest": [DIGEST, "sha256:" + "AB" * 32, DIGEST.upper(), DIGEST[:-1], DIGEST + "0", "sha512:" + "0" * 64, "",
               DIGEST + "\n"],
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
        "Add basic authentication/authorization", "Basic YWxpY2U6c3dvcmRmaXNo", "basic%20YWxpY2U6c3dvcmRmaXNo",
        "Bearer a1b2c3d4e5f6", "bearer OAuth2-authentication", "http://a:80 @b", '"http://a:80","@b/c"', "x://a:b@c",
        "x://a:$B@c", "x://a:1@sha256:0", "x:\\/\\/a:b@c", "X-Api-Key: q7w8e9r0t1", "x-api-key: required",
        "?sig=a1b2c3d4e5", "PRIVATE-TOKEN=a1b2c3d4", "authorization: OAuth2", "api-key=hunter", "api-key=$KEY",
        "Authorization=Bearer%20hunter", "Authorization=Bearer $T", "x=1,token=a;b", "x-scope=1", "--pad-token=0",
        "-Dkey.storePassword=x", "--secret=id=x", "--secret=x", '{"env":{"GITHUB_TOKEN":"x"}}', '{"A_TOKEN": "${X}"}',
        "--token 5f0c2e7d9a1b", "--token base64-encoded", "curl -u a:b x", "curl -u $A:$B", "mysql -px",
        "\u0661\u017f",
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
        "198.51.100.0/24", "172.16.0.0/12", "172.16.0.0/16", "192.168.0.0/16", "10.0.0.0/15", "2000::/31",
        "2000::/32",
        "64:ff9b::a00:1/128", "64:ff9b::a04f:6800/119", "64:ff9b:1::/48", "64:ff9b:1::a00:0/104", "64:ff9b::/95",
        "2002:a00:1::/48", "2002::/16", "2001::/32", "2001:0:41d3::/48", "2001:200::/32", "fec0::/10", "feff::/16",
        "198.18.0.0/15", "198.19.0.0/16", "198.0.0.0/8", "192.0.0.0/24", "192.0.1.0/24", "192.88.99.0/24",
        "::a00:0/104", "::ff00:0:0/88", "::ffff:0:a00:0/104", "100::/64", "5f00::/16", "fd00:42::42/128",
        "fd00:c1::a9fe:a9fe/128", *(cidr for cidr, _ in networks.FORBIDDEN), *networks.PRIVATE,
        *networks.ANTHROPIC_CIDRS,
    ],
    "allowedDomains": [
        "github.com", "*.githubusercontent.com", "registry.example.org:8443", "GitHub.com", "github.com.", "com",
        "*.com", "*", "*.*.com", "a.*.com", "*a.com", "10.0.0.1", "10.0.0.1:443", "[::1]", "::1", "0x7f.1", "1.2.3.4a",
        "github.com:0", "github.com:65535", "github.com:65536", "github.com:", "github.com:443:443", "github.com:0443",
        "https://github.com", "github.com/x", "a_b.com", "-a.com", "a-.com", "a..com", ".com", "xn--bcher-kva.example",
        "bücher.example", "kubernetes.default.svc", "x.local", "x.internal:8443", "localhost", "localhost.localdomain",
        "x.svc.example.org", "a.test", "a.tests", "", " github.com", "github.com\n", "a.b-c.d1", "a.1b",
        "a" * 64 + ".com",
        f"{'a.' * 125}com", f"{'a.' * 128}com", "user@github.com", "*.github.io", "*.co.uk", 1, None, ["a.com"],
    ],
    "allowed": [
        [], ["claude-sonnet-*"], ["*"], ["claude-opus-4.1", "claude-haiku-*"], ["Claude"], ["a b"], [""], ["a" * 128],
        ["a" * 129], ["a", "a"], [f"m{i}" for i in range(32)], [f"m{i}" for i in range(33)], "claude", [1],
        ["[a]"], ["a?"],
    ],
    "delivery": ["Brokered", "Mounted", "brokered", "", 1, None, "Sidecar"],
    "maxCostUSD": [
        "20", "0.50", "0", "0.0", "0.000000000", "0.000000001", "0.0000000001", "1", "020", "00.5", ".5", "5.", "-1",
        "+1", "1e3", "1E-3", "1_000", "1,5", " 20", "20 ", "20\n", "Infinity", "NaN", "٢", "999999999",
        "999999999.999999999", "1000000000", "1000000000.0", "", 20, 0.5, True, None, ["20"], "20 USD", "$20",
    ],
    "maxOutputTokens": [
        1, 0, -1, 2000000, 10**12, 10**12 + 1, 2**63, 2**64, 2.0, 1.5, 1e6, 1e13, "2000000", "", True, None, [1],
    ],
    "window": [
        "24h", "1s", "1m", "7d", "999999d", "1000000d", "0h", "024h", "1.5h", "24", "h", "24H", "24 h", " 24h", "24h\n",
        "1h30m", "1w", "-1h", "٢h", "", 24, 86400, None, ["24h"],
    ],
    "ttl": [
        "8h", "60s", "59s", "1m", "0m", "9999999s", "10000000s", "999999m", "1000000m", "99999h", "100000h", "9999d",
        "10000d", "01h", "1.5h", "8", "h", "8H", "8 h", " 8h", "8h\n", "1h30m", "1w", "-1h", "٢h", "", 8, None, [],
    ],
    "imageMaxAge": ["30d", "1d", "0d", "9999d", "10000d", "30", "30h", "030d", "", 30, None],
    "backupMaxAge": ["7d", "0d", "7", "7h", "9999d", "10000d", 7, None],
    "keyMaxAge": ["90d", "d", "1.5d", "90D", "90d\n", None],
    "idleTimeout": [
        "30m", "5m", "4m", "10m", "300s", "299s", "1000s", "99s", "1h", "1d", "9999d", "10000d", "05m", "5M", "5m\n",
        "", 5, None,
    ],
    "shutdownTime": [
        "2027-03-31T18:00:00Z", "2027-03-31T18:00:00", "2027-03-31T18:00:00z", "2027-03-31 18:00:00Z", "2027-03-31",
        "2027-03-31T18:00:00+00:00", "2027-03-31T18:00:00.0Z", "2027-02-28T00:00:00Z", "2027-02-29T00:00:00Z",
        "2028-02-29T00:00:00Z", "2028-02-30T00:00:00Z", "2000-02-29T00:00:00Z", "2100-02-28T00:00:00Z",
        "2027-04-31T00:00:00Z", "2027-06-30T00:00:00Z", "2027-09-31T00:00:00Z", "2027-11-31T00:00:00Z",
        "2027-12-31T23:59:59Z", "2027-12-31T24:00:00Z", "2027-12-31T23:60:00Z", "2027-12-31T23:59:60Z",
        "2027-13-01T00:00:00Z", "2027-00-01T00:00:00Z", "2027-01-00T00:00:00Z", "2027-01-32T00:00:00Z",
        "1999-01-01T00:00:00Z", "tomorrow", "", "2027-03-31T18:00:00Z\n", "٢027-03-31T18:00:00Z", 1700000000, None, {},
    ],
    "shutdownPolicy": ["Suspend", "Delete", "delete", "Retain", "", None, 1],
    "state": ["None", "Quarantined", "KeyCompromised", "quarantined", "none", "Contained", "", None, 1, True],
    "note": ["", "it pushed to main", "x" * 512, "x" * 513, "é" * 512, "sk-ant-api03-" + "a" * 40, None, 1, []],
    "allowedPorts": [
        [], [443], [443, 443], [22, 443], [0], [1], [65535], [65536], [-1], ["443"], [443.0], [443.5], [True], 443,
        list(range(1, 33)), list(range(1, 34)),
    ],
}  # fmt: skip

# Whole policies for newer images: what goes together and what does not.
UPDATES: list[Json] = [
    {"strategy": "None"}, {"strategy": "Notify"}, {"strategy": "Auto"}, {"strategy": "auto"}, {}, None, [], "Auto",
    {"window": {"start": "22:00", "hours": 4}}, {"strategy": None},
]  # fmt: skip
UPDATE_VALUES: dict[str, list[Json]] = {
    "window": [
        *({"start": start, "hours": 4} for start in ("22:00", "00:00", "23:59", "24:00", "9:00", "", "22:00\n", 22)),
        *({"start": "22:00", "hours": hours} for hours in (0, 1, 24, 25, 1.0, 1.5, "4", None, True)),
        *({"start": "22:00", "hours": 4, "days": days} for days in ([], ["Mon"], ["mon"], ["Mon"] * 8, "Mon", None)),
        {}, None, {"start": "22:00"}, {"hours": 4}, {"start": "22:00", "hours": 4, "zone": "UTC"},
    ],
    "healthGate": [
        {}, None, {"readyWithin": "10m"}, {"stableFor": "30s"}, {"readyWithin": "0m"}, {"stableFor": "99h"},
        {"stableFor": "100h"}, {"readyWithin": "9999s"}, {"readyWithin": "10"}, {"readyWithin": "10m "},
        {"within": "1m"}, {"readyWithin": None},
        *({"requires": one} for one in ("Ready", "Compliant", "compliant", "", None, True)),
    ],
    "canary": ["None", "Image", "Command", "image", "", None, True, {}],
    "maxAge": ["7d", "0m", "0d", "999d", "1000d", "999999m", "9999h", "30s", "", 7, None, "7d\n"],
}  # fmt: skip

# Whole lifecycles: what goes together and what does not.
LIFECYCLES: list[Json] = [
    {"ttl": "8h"}, {"shutdownTime": "2027-03-31T18:00:00Z"}, {"idleTimeout": "30m"},
    {"ttl": "8h", "shutdownTime": "2027-03-31T18:00:00Z", "idleTimeout": "30m", "shutdownPolicy": "Delete"},
    {}, {"shutdownPolicy": "Delete"}, {"shutdownPolicy": "Suspend"}, {"ttl": None},
    {"ttl": "8h", "resumeOn": "Request"},
    {"ttl": "8h", "shutdownPolicy": "delete"}, None, [], "8h", 8,
]  # fmt: skip

# Exceptions: each value of each field, and whole lists.
EXCEPTION: Json = {
    "control": "RES-05",
    "reason": "it runs for months",
    "owner": "a@example.org",
    "expires": "2027-03-31",
}
EXCEPTIONS: dict[str, list[Json]] = {
    "control": [
        "RES-05", "NET-99", "FS-1", "FS-001", "res-05", "HOST-01", "PRIV-01", " RES-05", "RES-05\n", "", 5, None,
    ],
    "reason": ["x", "", "x" * 256, "x" * 257, "token=hunter2", "sk-ant-api03-abc", 5, None, "a\nb", "ü"],
    "owner": ["x", "", "x" * 64, "x" * 65, "PASSWORD=hunter2", "Team, Example <a@example.org>", 5, None],
    "expires": [
        "2027-03-31", "2027-02-29", "2028-02-29", "2027-04-31", "2027-13-01", "2027-3-1", "27-03-31", "1999-01-01",
        "2027-03-31T00:00:00Z", "tomorrow", "", "2027-03-31\n", "٢027-03-31", 20270331, None,
    ],
}  # fmt: skip

# Whole incidents.
INCIDENTS: list[Json] = [
    {"state": "Quarantined"}, {"state": "KeyCompromised"}, {"state": "Quarantined", "note": "it pushed to main"},
    {"state": "None"},
    {"note": "all is well"}, {}, {"state": None}, {"state": "Quarantined", "since": "now"}, None, [], "Quarantined",
]  # fmt: skip

# Whole budgets and credentials: what goes together and what does not.
BUDGETS: list[Json] = [
    {"maxCostUSD": "20"}, {"maxOutputTokens": 2000000}, {"maxCostUSD": "0.5", "maxOutputTokens": 1, "window": "7d"},
    {}, {"window": "24h"}, {"maxCostUSD": None, "window": "24h"}, {"maxRequests": 7}, {"maxCostUsd": "20"},
    {"maxCostUSD": "20", "maxRequests": 7}, None, [], "20", 20,
]  # fmt: skip
CREDENTIALS: list[Json] = [
    {"apiKeySecretRef": {"name": "a"}}, {"oauthTokenSecretRef": {"name": "a"}},
    {"oauthTokenSecretRef": {"name": "a.b", "key": "token"}}, {"oauthTokenSecretRef": {"name": "a", "key": ".."}},
    {"apiKeySecretRef": {"name": "a"}, "oauthTokenSecretRef": {"name": "b"}},
    {"apiKeySecretRef": None, "oauthTokenSecretRef": {"name": "b"}}, {}, {"apiKeySecretRef": None},
    {"oauthTokenSecretRef": {}}, {"oauthTokenSecretRef": {"key": "token"}}, {"oauthTokenSecretRef": {"name": "A"}},
    {"oauthTokenSecretRef": {"name": "sk-ant-oat01-x"}}, {"oauthTokenSecretRef": "a"}, {"oauthToken": "a"},
    {"oauthTokenSecretRef": {"name": "a", "namespace": "b"}},
]  # fmt: skip

# Lists of services: what goes together and what does not.
_SERVICE: Json = {"name": "issues", "host": "issues.example.org", "paths": ["/api/*"]}
_HEADER: Json = {"valueFrom": {"secretKeyRef": {"name": "issues"}}}
_SERVICE_PATHS = [
    "/", "/*", "/api", "/api/", "/api/*", "/projects/*/issues", "/*/x/*", "/a*", "/a//b", "//", "api", "", "/..", "/.",
    "/a/../b", "/a/.b", "/...", "/a/./", "/%2e", "/a b", "/a?b", "/a#b", "/a;b", "/a'b", "/a\\b", "/ü", "/a\n", "/@x/y",
    "/" + "a" * 199, "/" + "a" * 200, "/**", 1, None,
]  # fmt: skip
_HEADERS: list[Json] = [
    _HEADER, {}, _HEADER | {"name": "Authorization", "prefix": "Bearer "}, _HEADER | {"name": "PRIVATE-TOKEN"},
    *(_HEADER | {"name": name} for name in ("Host", "host", "Content-Length", "x_y", "x y", "-x", "x", "X-1", "", 1)),
    *(_HEADER | {"name": "x" * count} for count in (64, 65)),
    *(_HEADER | {"prefix": prefix} for prefix in ("", " ", " Bearer", "Basic ", "x\n", "ü", "x" * 64, "x" * 65, 1)),
    _HEADER | {"prefix": "ghp_" + "a1B2" * 9}, {"valueFrom": {}}, {"valueFrom": None}, {"value": "x"},
    *({"valueFrom": {"secretKeyRef": one}} for one in ({}, {"name": "A"}, {"name": "a", "key": ".."}, {"key": "b"})),
    {"valueFrom": {"configMapKeyRef": {"name": "a"}}}, None, "x",
]  # fmt: skip
_SERVICE_HOSTS = [
    "a.b", "registry.example.org:8443", "A.b", "*.b.c", "localhost", "10.0.0.1", "https://a.b", "a.b/", "a.b:0",
    "a.b:65536", "x.svc", "x.internal:8443", "a", "", "ü.de", "a.b\n", 1, None,
]  # fmt: skip
_METHODS: list[Json] = [["GET"], ["GET", "POST", "DELETE"], [], ["GET", "GET"], ["get"], ["TRACE"], ["CONNECT"], "GET",
                        [""], None]  # fmt: skip
_REGISTRIES: list[Json] = [
    *({"type": kind} for kind in ("PyPI", "NPM", "Maven", "Cargo", "pypi", "RubyGems", "", None)), {},
    *({"type": "PyPI", "path": path} for path in ("/simple/", "/a/b", "/*", "x", "", "/..", None)), "PyPI", None,
]  # fmt: skip
SERVICES: list[Json] = [
    [_SERVICE], [], [_SERVICE | {"header": _HEADER, "methods": ["GET", "POST"], "requestsPerMinute": 60}],
    [{"name": "pypi", "host": "pypi.example.org", "paths": ["/*"], "registry": {"type": "PyPI"}}],
    *([_SERVICE | {"name": name}] for name in ("a", "a-b", "-a", "a-", "A", "a.b", "a_b", "a" * 30, "a" * 31, "", 1)),
    *([_SERVICE | {"host": host}] for host in _SERVICE_HOSTS), *([_SERVICE | {"header": one}] for one in _HEADERS),
    *([_SERVICE | {"paths": [path]}] for path in _SERVICE_PATHS),
    *([_SERVICE | {"paths": one}] for one in ([], None, "/", ["/a", "/a"])),
    *([_SERVICE | {"paths": [f"/{i}" for i in range(count)]}] for count in (32, 33)),
    *([_SERVICE | {"methods": methods}] for methods in _METHODS),
    *([_SERVICE | {"requestsPerMinute": count}] for count in (0, 1, 60000, 60001, 1.5, "1", None)),
    *([_SERVICE | {"registry": registry}] for registry in _REGISTRIES),
    [_SERVICE, _SERVICE], [_SERVICE, _SERVICE | {"name": "b"}], [_SERVICE | {"url": "x"}], [{}], ["x"], None, {}, "x",
    *([_SERVICE | {"name": name, "registry": {"type": kind}} for name in ("a", "b")] for kind in ("PyPI", "Cargo")),
    *([_SERVICE | {"name": f"s{i}"} for i in range(count)] for count in (16, 17)),
    *([{key: value for key, value in _SERVICE.items() if key != left}] for left in _SERVICE),
]  # fmt: skip

# Lists of repositories: what goes together and what does not.
_REPOSITORY: Json = {"path": "project", "url": "https://github.com/team/project"}
_SECRET: Json = {"credentialsSecretRef": {"name": "git"}}
_URLS = [
    "https://github.com/team/project", "https://git.example.org:8443/a/b/c.git/", "git@github.com:team/project.git",
    "ssh://git@github.com/team/project", "ssh://github.com/x", "github.com:x", "ssh://git@github.com:22/x",
    "http://github.com/x", "git://github.com/x", "file:///x", "/x", "https://github.com", "https://github.com/",
    "https://u@github.com/x", "https://u:p@github.com/x", "https://10.0.0.1/x", "https://localhost/x",
    "https://GitHub.com/x", "https://github.com/x?y", "https://github.com/x#y", "https://github.com/../x",
    "https://github.com/a//b", "https://github.com/.git", "https://github.com/a b", "https://github.com/%2e/x",
    "ext::sh -c x", "-x", "", "https://github.com/x\n", "https://github.com:123456/x", "https://a.b/~x", "a.b:-x",
    "https://github.com/" + "a" * 493, "https://github.com/" + "a" * 494, 1, None,
]  # fmt: skip
_PATHS = [
    "a", "a/b", "a.b", "A_~-", "-a", "/a", "a/", "a//b", ".", "..", "a/..", "../a", ".git", "a/.git", "a b", "ü",
    "a\n", "a" * 200, "a" * 201, "", 1, None,
]  # fmt: skip
_REFS = [
    "main", "v1.2", "claude/x", "0123456789abcdef0123456789abcdef01234567", "a..b", "a//b", "a@{1}", "a/", "a.", "-a",
    "a.lock", "a b", "a^", "a~1", "a:b", "refs/heads/x", "@", "a\n", "x" * 200, "x" * 201, "", 1, None,
]  # fmt: skip
_PUSHES: list[Json] = [
    {}, {"branches": ["claude/*"]}, {"branches": []}, {"branches": [""]}, {"branches": ["a b"]}, {"branches": "a"},
    {"branches": ["a"] * 32}, {"branches": ["a"] * 33}, {"branches": ["x" * 200]}, {"branches": ["x" * 201]},
    {"force": True, "delete": True}, {"force": "true"}, {"delete": 1}, {"protectedPaths": [".github/**"]},
    {"protectedPaths": ["a b/ü"]}, {"protectedPaths": ["a\\b"]}, {"protectedPaths": ["a\n"]}, {"protectedPaths": [""]},
    {"protectedPaths": []}, {"protectedPaths": ["a\u007f"]}, {"protectedPaths": ["x"] * 65}, {"tags": True}, None, [],
    *({"branches": [one]} for one in (
        "refs/heads/claude/*", "refs", "/a", "a/", "a//b", "a..b", "a/.b", "-a", "a/-b", "a.", "a./b", "a.lock",
        "a.lock/b", "HEAD", "a/HEAD", "HEAD/a", "**", "*", "a.b", "*.lock",
    )),
    *({"protectedPaths": [one]} for one in (
        "/", "//", "/a", "a/", "a//b", "//a", "./a", "a/.", "../a", "a/../b", "...", ".a", "a/..b", "**/*", "a.",
    )),
]  # fmt: skip
REPOSITORIES: list[Json] = [
    [_REPOSITORY], [], [_REPOSITORY | _SECRET | {"push": {}}], [_REPOSITORY | {"push": {}}], [_REPOSITORY | _SECRET],
    *([_REPOSITORY | {"url": url}] for url in _URLS), *([_REPOSITORY | {"path": path}] for path in _PATHS),
    *([_REPOSITORY | {"ref": ref}] for ref in _REFS), *([_REPOSITORY | _SECRET | {"push": push}] for push in _PUSHES),
    *([_REPOSITORY | {"depth": depth}] for depth in (0, 1, -1, 1.5, 10**6, 10**6 + 1, "1", None)),
    *([_REPOSITORY | {name: value}] for name in ("submodules", "lfs") for value in (True, False, "yes", 0, None)),
    *([_REPOSITORY | {"credentialsSecretRef": value}] for value in ({}, None, "x", {"name": "A"}, {"key": "b"})),
    [_REPOSITORY, _REPOSITORY], [_REPOSITORY, _REPOSITORY | {"path": "b"}],
    [_REPOSITORY, {"url": "https://github.com/b"} | {"path": "project"}],
    [_REPOSITORY, {"url": "https://github.com/b"} | {"path": "project/b"}],
    [_REPOSITORY, {"url": "https://github.com/b"} | {"path": "project-b"}],
    *([{"path": f"p{i}", "url": f"https://a.b/{i}"} for i in range(count)] for count in (16, 17)),
    [{"path": "a"}], [{"url": "https://github.com/b"}], [{}], ["https://github.com/b"], None, {}, "x",
    [_REPOSITORY | {"branch": "main"}],
]  # fmt: skip

# Labels to choose by, right and wrong.
MATCH_LABELS: list[Json] = [
    {"zone": "a"}, {}, {"zone": ""}, {"example.com/zone": "a"}, {"a/b/c": "x"}, {"": "x"}, {"-a": "x"},
    {"a" * 63: "x"},
    {"a" * 64: "x"}, {"a" * 254 + "/x": "x"}, {"Example.com/x": "x"}, {"x": "a" * 63}, {"x": "a" * 64}, {"x": "-"},
    {"x": "a b"}, {"x": "ü"}, {"x": 1}, {"x": True}, {"x": ["a"]}, {"x": {"y": "z"}}, {"ü": "x"}, {"x": None},
    {"a_b.c-d": "A_b.C-d"},    {f"k{i}": "v" for i in range(16)}, {f"k{i}": "v" for i in range(17)},
    {"x": "a\n"}, {"x\n": "a"}, [], "zone=a", 7,
]  # fmt: skip
HOST_NAMES = ["build-1", "a", "a" * 63, "a" * 64, "", "a.b", "A", "-a", "a-", "a/b", "ü", "a\n", 7, True, [], {}]

# Whole backends: what goes together and what does not.
BACKENDS: list[Json] = [
    {"type": "Docker"}, {"type": "Docker", "hostRef": {"name": "a"}},
    {"type": "Kubernetes", "hostRef": {"name": "a"}},
    {"hostRef": {"name": "a"}}, {"type": "Docker", "hostRef": {}}, {"type": "Docker", "hostSelector": {}},
    {"type": "Docker", "hostSelector": {"matchLabels": {"a": "b"}}},
    {"hostSelector": {"matchLabels": {"a": "b"}}},
    {"type": "Docker", "hostRef": {"name": "a"}, "hostSelector": {"matchLabels": {"a": "b"}}},
    {"type": "Kubernetes", "hostRef": {"name": "a"}, "hostSelector": {"matchLabels": {"a": "b"}}},
    {"type": "Docker", "hostSelector": {"matchLabels": {"a": "b"}, "matchExpressions": []}},
    {"type": "docker"}, {"type": ""}, {"type": None}, {"type": "Docker", "hostRef": None},
    {"type": "Docker", "hostRef": "a"}, {"type": "Docker", "host": "a"},
]  # fmt: skip

# The first three are right.
SECCOMP_PROFILES: list[Json] = [
    {"type": "Strict"}, {"type": "RuntimeDefault"}, {}, {"type": "Unconfined"}, {"type": "Localhost"},
    {"type": "Localhost", "localhostProfile": "x"}, {"type": "Strict", "localhostProfile": "x"}, {"type": "strict"},
    {"type": ""}, {"type": None}, {"type": 1}, None, [], "Strict",
]  # fmt: skip
# The first two are right.
APP_ARMOR_PROFILES: list[Json] = [
    {"type": "RuntimeDefault"}, {"type": "Localhost", "localhostProfile": "claude.d/a-1_b"}, {}, {"type": "Localhost"},
    {"type": "RuntimeDefault", "localhostProfile": "a"}, {"type": "Unconfined"}, {"type": "localhost"},
    *({"type": "Localhost", "localhostProfile": value} for value in (
        "a" * 128, "a" * 129, "", "unconfined", "UNCONFINED", "unconfined.d", "/a", "a b", "a,b", "a=b", None, 7,
    )), None, [], "RuntimeDefault",
]  # fmt: skip
SECURITIES: list[Json] = [
    *({"appArmorProfile": profile} for profile in APP_ARMOR_PROFILES),
    *({"seccompProfile": profile} for profile in SECCOMP_PROFILES),
    *({"userNamespace": value} for value in (True, False, "true", 1, None)),
    *({"runtimeClassName": value} for value in ("gvisor", "a.b-c", "gVisor", "", "-a", "a" * 253, "a" * 254, None, 7)),
    *({"executableScratch": value} for value in (True, False, "true", 0, None)),
    {}, {"privileged": True}, {"capabilities": {"add": ["ALL"]}}, [], "Strict",
]  # fmt: skip

# Backups to begin with; the first two are right.
_KEPT: Json = {"type": "VolumeClaim", "claimName": "backups"}
_LETS_IN: Json = {"credentialsSecretRef": {"name": "a"}}
_S3: Json = {"endpoint": "https://s3.example.org", "bucket": "backups"}
_SFTP: Json = {"host": "backups.example.org", "user": "claude", "path": "/srv/backups"}
# The first two are right.
_SERVERS: list[Json] = [
    {"type": "S3", "s3": _S3 | {"endpoint": "https://10.1.2.3:9000", "prefix": "a/b", "region": "eu-1"}, **_LETS_IN},
    {"type": "SFTP", "sftp": _SFTP | {"port": 2222, "path": "below/home"}, **_LETS_IN},
    {"type": "S3", "s3": _S3}, {"type": "S3", **_LETS_IN}, {"type": "S3", "sftp": _SFTP, **_LETS_IN},
    {"type": "SFTP", "s3": _S3, **_LETS_IN}, {"type": "S3", "s3": _S3, "claimName": "a", **_LETS_IN},
    {"type": "VolumeClaim", "claimName": "a", **_LETS_IN}, {"type": "HostDirectory", "s3": _S3},
    {"type": "S3", "s3": _S3, "credentialsSecretRef": {}}, {"type": "S3", "s3": _S3, "credentialsSecretRef": "a"},
    *({"type": "S3", "s3": _S3 | {"endpoint": endpoint}, **_LETS_IN} for endpoint in (
        "http://s3.example.org", "https://", "https://A", "https://a:0", "https://a:70000", "https://a/b", "https://u@a",
        "https://-a", "https://a..b", "https://[::1]", "https://a:", 7, None,
    )),
    *({"type": "S3", "s3": _S3 | {"bucket": bucket}, **_LETS_IN} for bucket in ("ab", "A", "a/b", "-ab", "abc", None)),
    *({"type": "S3", "s3": _S3 | {"prefix": prefix}, **_LETS_IN} for prefix in ("", "/a", "a/", "a//b", "../a", "a b")),
    *({"type": "S3", "s3": _S3 | {"region": region}, **_LETS_IN} for region in ("", "EU", "a b")),
    *({"type": "SFTP", "sftp": _SFTP | {"host": host}, **_LETS_IN} for host in ("", "-oa", "a b", "A", "::1", None)),
    *({"type": "SFTP", "sftp": _SFTP | {"user": user}, **_LETS_IN} for user in ("", "-l", "a b", "a@b", "_a.b-c")),
    *({"type": "SFTP", "sftp": _SFTP | {"port": port}, **_LETS_IN} for port in (0, 1, 65535, 65536, "22")),
    *({"type": "SFTP", "sftp": _SFTP | {"path": path}, **_LETS_IN} for path in ("", "/", "/a/", "/../a", "-a", "/a b")),
]  # fmt: skip
RESTORES: list[Json] = [
    {"backupName": "alice-1"},
    {"snapshot": "0123abcd", "target": _KEPT, "passwordSecretRef": {"name": "backups"}},
    {"snapshot": "0" * 64, "target": {"type": "HostDirectory"}, "passwordSecretRef": {"name": "a", "key": "b"}},
    {}, {"backupName": ""}, {"backupName": "A"}, {"backupName": "a", "snapshot": "0123abcd"}, {"snapshot": "0123abcd"},
    {"backupName": "a", "target": _KEPT}, {"target": _KEPT, "passwordSecretRef": {"name": "a"}}, None, "a", [],
    *(
        {"snapshot": "0123abcd", "target": target, "passwordSecretRef": {"name": "a"}}
        for target in (
            {}, None, {"type": "VolumeClaim"}, {"type": "HostDirectory", "claimName": "a"}, {"type": "S3"},
            {"type": "VolumeClaim", "claimName": "A"}, {"type": "VolumeClaim", "claimName": "a/b"}, {"claimName": "a"},
            *_SERVERS,
        )
    ),
    *(
        {"snapshot": snapshot, "target": _KEPT, "passwordSecretRef": {"name": "a"}}
        for snapshot in ("0123abc", "0123ABCD", "latest12", "0" * 65, 12345678, None)
    ),
    {"snapshot": "0123abcd", "target": _KEPT, "passwordSecretRef": {}},
    {"snapshot": "0123abcd", "target": _KEPT, "passwordSecretRef": {"name": "a/b"}},
]  # fmt: skip

# Backups by a schedule; the first is right on Kubernetes, the second on Docker.
_ASKED: Json = {"schedule": "30 2 * * *", "target": _KEPT, "passwordSecretRef": {"name": "backups"}}
_ON_HOST: Json = _ASKED | {"target": {"type": "HostDirectory"}}
_SCHEDULES: list[Json] = [
    "0 0 * * *", "*/15 * * * *", "*/14 * * * *", "*/59 * * * *", "*/60 * * * *", "*/5 * * * *", "* * * * *",
    "0,15,30,45 * * * *", "0,1,2,3,4 * * * *", "0-30 * * * *", "60 * * * *", "00 * * * *", "05 2 * * *", "0 24 * * *",
    "0 23 * * *", "0 */6 * * *", "0 */0 * * *", "0 1-5 * * *", "0 5-1 * * *", "0 5-5 * * *", "0 1-23/2 * * *",
    "0 9/2 * * *", "0 1,5-7,9 * * *", "0 1,7-5 * * *", "0 0 1 * *", "0 0 0 * *", "0 0 31 * *", "0 0 32 * *",
    "0 0 31 2 *", "0 0 30 2 *", "0 0 29 2 *", "0 0 31 4 *", "0 0 31 2 1", "0 0 1 13 *", "0 0 1 0 *", "0 0 1 12 *",
    "0 0 * JAN *", "0 0 * * MON", "0 0 * * 7", "0 0 * * 8", "0 0 * * 1-5", "0 0 * * 5-7", "0 0 * * 6-0", "0 0 * *",
    "0 0 * * * *", "0  0 * * *", " 0 0 * * *", "0 0 * * * ", "0 0 * * *\n", "@daily", "", "0 0 L * *", "0 0 * * 1#2",
    "0 0 ? * *", "0 0 1-31/100 * *", "٢ 0 * * *", "0 0 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22 * *",
    "0 0 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23 * *", 5, None, ["0 0 * * *"],
]  # fmt: skip
_LEAVES: Json = _ASKED | {"target": _SERVERS[1], "whenHostCompromised": "RestoreElsewhere"}
BACKUPS: list[Json] = [
    _ASKED, _ON_HOST,
    *(_ON_HOST | {"schedule": schedule} for schedule in _SCHEDULES),
    *(_ON_HOST | {"retention": retention} for retention in (
        {}, None, {"keepLast": 7}, {"keepLast": 0}, {"keepLast": 1000}, {"keepLast": 1001}, {"keepHourly": 1},
        {"keepDaily": 7, "keepWeekly": 4, "keepMonthly": 12}, "7",
    )),
    *(_ON_HOST | {"includeHome": value} for value in (True, False, "true", 1, None)),
    *(asked | {"volumeSnapshot": value} for asked in (_ON_HOST, _ASKED) for value in (
        {}, None, {"className": "fast"}, {"className": "Fast"}, {"className": ""}, {"storageClassName": "a.b-c"},
        {"className": "a" * 253, "storageClassName": "a" * 254}, {"className": 1}, {"name": "fast"}, True, "fast",
    )),
    *({name: value for name, value in _ON_HOST.items() if name != left} for left in _ON_HOST),
    *(_ASKED | {"target": target} for target in _SERVERS[:2]),
    *(asked | {"whenHostCompromised": what} for what in ("Stay", "RestoreElsewhere", "Move", "", True, None)
      for asked in (_ON_HOST, _ASKED | {"target": _SERVERS[0]})),
    _ON_HOST | {"passwordSecretRef": {}}, _ON_HOST | {"timeZone": "UTC"}, {}, None, [], "30 2 * * *",
]  # fmt: skip

# Logins of registries, right and wrong.
PULL_SECRETS: list[Json] = [
    [], [{"name": "ghcr"}], [{"name": "ghcr"}, {"name": "other.example"}], [{"name": "ghcr"}, {"name": "ghcr"}],
    [{"name": ""}], [{}], ["ghcr"], [{"name": "other/ghcr"}], [{"name": "sk-ant-api03-x"}], None, "ghcr", {"name": "a"},
    [{"name": "ghcr", "namespace": "other"}], *([{"name": f"n{i}"} for i in range(count)] for count in (8, 9)),
]  # fmt: skip

ENV_NAMES = [
    "FOO", "foo", "_", "a1", "1a", "A-B", "A.B", "", "Ä", "A" * 128, "A" * 129, "A\n", "ANTHROPIC_API_KEY",
    "anthropic_api_key", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN", "GITHUB_TOKEN", "TOKEN", "TOKENS",
    "MAX_THINKING_TOKENS", "CLAUDE_CODE_MAX_OUTPUT_TOKENS", "TOKENIZERS_PARALLELISM", "DB_PASSWORD", "PGPASSWORD",
    "OLDPWD", "MYSQL_PWD", "CLIENT_SECRET", "AWS_SECRET_ACCESS_KEY", "AWS_BEARER_TOKEN_BEDROCK", "AWS_REGION",
    "CACHE_KEY", "SSH_KEY", "SENTRY_DSN", "BASIC_AUTH", "AUTHOR", "HOME", "HOME_DIR", "PATH", "PYTHONPATH",
    "LD_PRELOAD", "LD_", "NODE_OPTIONS", "NODE_ENV", "NODE_EXTRA_CA_CERTS", "BUN_OPTIONS", "KUBERNETES_SERVICE_HOST",
    "KUBECONFIG", "DISABLE_TELEMETRY", "DISABLE_PROMPT_CACHING", "ANTHROPIC_BASE_URL", "ANTHROPIC_VERTEX_BASE_URL",
    "ANTHROPIC_MODEL", "ANTHROPIC_CUSTOM_HEADERS", "CLAUDE_CONFIG_DIR", "CLAUDE_CODE_USE_BEDROCK", "HTTPS_PROXY",
    "Http_Proxy", "no_proxy", "NO_PROXY_FOR", "SSL_CERT_FILE", "SSLKEYLOGFILE", "EDITOR", "HOSTALIASES",
    "CLAUDE_CODE_ENABLE_TELEMETRY", "https_proxy", "to\u212aen", "CLAUDE_SANDBOX_X", "CLAUDE_CODE_SHELL",
    "IS_SANDBOX", "BASH_ENV", "GCE_METADATA_HOST", "NODE_PATH", "DISABLE_UPDATES", "BETA_TRACING_ENDPOINT",
    "ANTHROPIC_URL", "ANTHROPIC_FOUNDRY_URL", "ANTHROPIC_ORGANIZATION_ID", "CLAUDE_X_CONFIG_DIR", "CLAUDE_BG_X",
    "CLAUDE_CODE_SKIP_X", "CLAUDE_CODE_REMOTE", "CLAUDE_CODE_PLUGIN_DIRS", "X_PAT", "PATTERN", "X_PASS", "COMPASS",
    "OAUTH_X", "CLAUDE_CODE_API_KEY_HELPER_TTL_MS", "OTEL_EXPORTER_OTLP_HEADERS", "X_HEADERS", "TOKEN_FILE",
    "USE_API_KEY",
    "OPENAI_KEY", "GPG_KEY", "ACCESS_TOKEN_EXPIRES_IN", "AWS_ACCESS_KEY_ID", "API_KEY_ID", "ALLOW_EMPTY_PASSWORD",
    "TF_TOKEN_X", "SMTP_AUTH", "COOKIE_MAX_AGE", "TOKEN_URL", "PASSWORD_MIN_LENGTH", "IDENTITY_TOKEN_FILE", "SSHKEY",
    "LICENCE_KEY", "LICENSE_KEY", "COOKIE_JAR", "AUTH_HEADER",
]  # fmt: skip
HOST_ADDRESSES = (
    "127.0.0.1", "::1", "0.0.0.0", "::", "192.0.2.7",  # noqa: S104
    "2001:db8::7", "127.0.0.01", "127.1", "127.0.0.1/32", "0:0::1",
    "::0001", "2001:DB8::7", "2001:db8:0:0:0:0:0:7", "::ffff:192.0.2.7", "::ffff:c000:207", "fe80::1%eth0",
    "[::1]", "localhost", "", " ",
    "127.0.0.1 ", "256.0.0.1", "1", "2130706433", "0x7f.0.0.1", "1.2.3.4.5", "::1::", "x" * 40, 1, True,
    ["127.0.0.1"],
    "::1.2.3.4", "64:ff9b::1.2.3.4", "1:0:0:2::3", "2001:0:0:1:0:0:0:1", "1:0:2:3:4:5:6:7",
)  # fmt: skip
"""Addresses of a host, canonical and otherwise."""

PORT_NAMES = ["http", "HTTP", "8080", "a", "-a", "a-", "a-b", "a--b", "x" * 15, "x" * 16, "", "ü", "h2", "2-h", "h\n"]
NAMES = [
    "a", "alice", "a-b", "a.b", "-a", "a-", "A", "a" * 45, "a" * 46, "a" * 63, "a" * 253, "a_b", "0", "ä", "x--y",
]  # fmt: skip
SECRET_NAMES = [
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
# Where the fields of interest are.
PARENTS: dict[str, tuple[str, ...]] = {
    "profile": (), "operatingMode": (), "level": ("compliance",), "type": ("workspace",), "retention": ("workspace",),
    "instance": ("workspace",),
    "writableReason": ("workspace",),
    "readOnly": ("workspace",), "size": ("workspace",), "storageClassName": ("workspace",), "cpu": ("resources",),
    "memory": ("resources",), "ephemeralStorage": ("resources",), "repository": ("image",), "tag": ("image",),
    "digest": ("image",), "pullPolicy": ("image",), "dns": ("network", "egress"),
    "allowedDomains": ("network", "egress"), "delivery": ("credentials",), "allowed": ("model",),
    "allowedCIDRs": ("network", "egress"), "allowedPorts": ("network", "egress"),
    "key": ("credentials", "apiKeySecretRef"),
    "maxCostUSD": ("budget",), "maxOutputTokens": ("budget",), "window": ("budget",),
    "imageMaxAge": ("due",), "keyMaxAge": ("due",), "backupMaxAge": ("due",),
    "ttl": ("lifecycle",), "idleTimeout": ("lifecycle",), "shutdownTime": ("lifecycle",),
    "shutdownPolicy": ("lifecycle",), "state": ("incident",), "note": ("incident",),
}  # fmt: skip


IN_PRODUCTION: Json = {
    "profile": "Production", "budget": {"maxCostUSD": "20"}, "lifecycle": {"ttl": "30d"}, "backup": BACKUPS[0],
}  # fmt: skip
"""What profile Production asks for beside the defaults, on Kubernetes."""


def placed(spec: Json) -> Json:
    """The same; where it is in Production and on Docker, with backups as they are there."""
    backend = spec.get("backend")
    if spec.get("backup") == BACKUPS[0] and isinstance(backend, dict) and backend.get("type") == "Docker":
        return spec | {"backup": copy.deepcopy(BACKUPS[1])}
    return spec


def one_by_one() -> Iterator[Json]:
    """Each value of each pool alone in an otherwise good document, in both profiles."""
    for spec in itertools.chain(_single_values(), _listed_values(), _combinations()):
        for profile in ({"profile": "Development"}, IN_PRODUCTION):
            credentials = {"apiKeySecretRef": {"name": "key"}}
            whole = {"credentials": credentials, **copy.deepcopy(profile), **copy.deepcopy(spec)}
            yield document("alice", placed(whole))
    yield document("alice", {"credentials": {"apiKeySecretRef": {"name": "key"}}, "profile": "Production"})
    for name in NAMES:
        yield document(name, {"credentials": {"apiKeySecretRef": {"name": "key"}}})


def _single_values() -> Iterator[Json]:
    around: Json = {"image": {"repository": "claude", "digest": DIGEST}, "apiKeySecretRef": {"name": "key"}}
    for field, parents in PARENTS.items():
        for value in POOLS[field]:
            spec: Json = {field: [value] if field in {"allowedCIDRs", "allowedDomains"} else value}
            if parents:
                spec = {**around.get(parents[-1], {}), **spec}
            for parent in reversed(parents):
                spec = {parent: spec}
            yield spec


def _listed_values() -> Iterator[Json]:
    for name in SECRET_NAMES:
        yield {"credentials": {"apiKeySecretRef": {"name": name}}}
    for value in POOLS["value"]:
        yield {"args": [value]}
        yield {"command": [value]}
        yield {"env": [{"name": "X", "value": value}]}
        yield {"env": [{"name": "X_HEADERS", "value": value}]}
        yield {"command": ["agent", "--token"], "args": [value]}
        yield {"args": ["curl", "-u", value]}
    yield from ({"env": [{"name": name}]} for name in ENV_NAMES)
    for ports in ([443], [8443], [443, 22]):
        for more in ({}, {"allowedCIDRs": []}, {"allowedCIDRs": ["10.1.0.0/16"]}):
            yield {"network": {"egress": {"allowedPorts": ports, **more}}}
            mounted = {"credentials": {"apiKeySecretRef": {"name": "k"}, "delivery": "Mounted"}}
            yield {**mounted, "network": {"egress": {"allowedPorts": ports, **more}}}
    for option in (
        "--token",
        "--api-key",
        "--apiKey",
        "--secret",
        "--db-password",
        "--pad-token",
        "-token",
        "--tokens",
    ):
        for value in ("x", "$X", "", "-x", "id=x", "i", "@x", "<x>", "5"):
            yield {"args": ["agent", option, value]}
            yield {"command": [option], "args": [value]}
    for line in (
        ["mysql", "-px"],
        ["mysql", "-p", "x"],
        ["curl", "-sua:b"],
        ["a\x1fb", "--token\x1fx"],
        ["xcurl", "-u", "a:b"],
    ):
        yield {"args": line}
    yield from ({"network": {"ports": [{"name": name, "containerPort": 8080}]}} for name in PORT_NAMES)
    for backend in ({"type": "Docker"}, {"type": "Kubernetes"}):
        for address in HOST_ADDRESSES:
            port = {"name": "a", "containerPort": 8080, "hostIP": address}
            yield {"backend": backend, "network": {"ports": [port]}}
        for host_port in (0, 80, 1023, 1024, 8080, 65535, 65536, -1, "8080", 8080.5, None):
            port = {"name": "a", "containerPort": 8080, "hostPort": host_port}
            yield {"backend": backend, "network": {"ports": [port]}}
    for pair in ((9000, 9000), (9000, 9001), (9000, None), (None, None)):
        ports = [{"name": f"a{i}", "containerPort": 8080 + i, "hostPort": n} for i, n in enumerate(pair)]
        yield {"backend": {"type": "Docker"}, "network": {"ports": ports}}
    for number in POOLS["containerPort"]:
        yield {"network": {"ports": [{"name": "a", "containerPort": number}]}}


def _behind_a_gateway() -> Iterator[Json]:
    """What needs a gateway, with one and without."""
    wishes: list[Json] = [
        *({"network": {"egress": {"allowedDomains": [value]}}} for value in POOLS["allowedDomains"]),
        *({"model": {"allowed": value}} for value in POOLS["allowed"]),
        {}, {"model": {}}, {"model": None}, {"network": {"egress": {"allowedDomains": []}}},
        *({"network": {"egress": {"allowedDomains": [f"n{i}.com" for i in range(count)]}}} for count in (64, 65)),
        {"network": {"egress": {"allowedDomains": ["a.com", "a.com:443"]}}},
        {"network": {"egress": {"allowedDomains": ["a.com", "a.com"]}}},
        *({"budget": budget} for budget in budgets()),
        *({"lifecycle": lifecycle} for lifecycle in lifecycles()),
        *updates(),
        *({"restoreFrom": restore} for restore in RESTORES),
        {"restoreFrom": RESTORES[0], "workspace": {"type": "EmptyDir"}},
        *({"backup": backup} for backup in BACKUPS), {"backup": _ON_HOST, "workspace": {"type": "EmptyDir"}},
        *({"backup": _ON_HOST | {"includeHome": asked}, "workspace": {"keepHome": {"size": "1Gi"}}}
          for asked in (True, False)),
        *({"backup": _LEAVES, "backend": {"type": kind, **named}} for kind in ("Docker", "Kubernetes")
          for named in ({}, {"hostRef": {"name": "a"}}, {"hostSelector": {"matchLabels": {"a": "b"}}})),
        *({"services": services} for services in SERVICES),
        *({"repositories": repositories} for repositories in REPOSITORIES),
    ]  # fmt: skip
    for wish in wishes:
        backend = "Kubernetes" if wish.keys() & {"repositories"} else "Docker"
        yield {"backend": {"type": backend}, **_brokered("Brokered"), **wish}
    volume: Json = {"type": "PersistentVolumeClaim"}
    for beside in (
        {}, {"image": {"repository": "example.org/a", "tag": "1"}}, {"workspace": volume},
        {"workspace": volume | {"readOnly": True}}, {"workspace": volume | {"readOnly": False}},
        IN_PRODUCTION | {"workspace": volume}, IN_PRODUCTION | {"workspace": volume | {"readOnly": False}},
        IN_PRODUCTION | {"workspace": volume | {"readOnly": False, "writableReason": "it writes code"}},
        {"workspace": {"type": "EmptyDir"}},
        *({"image": {"repository": "example.org/a", "tag": "1"}, "workspace": {"type": kind}}
          for kind in ("EmptyDir", "PersistentVolumeClaim")),
    ):  # fmt: skip
        for declared in ([], [_REPOSITORY]):
            for backend in ("Docker", "Kubernetes"):
                spec = {"backend": {"type": backend}, **_brokered("Brokered"), **beside, "repositories": declared}
                yield placed(spec)
    for backend in ("Docker", "Kubernetes"):
        for delivery in POOLS["delivery"]:
            for wish in (
                {},
                {"model": {"allowed": ["a"]}},
                {"network": {"egress": {"allowedDomains": ["a.com"]}}},
                {"budget": {"maxCostUSD": "20"}},
                {"lifecycle": {"ttl": "8h"}},
                {"lifecycle": {"idleTimeout": "30m"}},
            ):
                yield {"backend": {"type": backend}, **_brokered(delivery), **wish}
            for credentials in CREDENTIALS:
                yield {"backend": {"type": backend}, "credentials": {**credentials, "delivery": delivery}}
    yield from ({"credentials": credentials} for credentials in CREDENTIALS)


def budgets() -> Iterator[Json]:
    """Budgets with each value of each of their fields, beside a limit and alone."""
    yield from BUDGETS
    for field in ("maxCostUSD", "maxOutputTokens", "window"):
        for value in POOLS[field]:
            yield {field: value}
            yield {"maxCostUSD": "20", "maxOutputTokens": 7, field: value}


def updates() -> Iterator[Json]:
    """Policies for newer images, with a tag, with a digest alone, and without an image."""
    for image in ({}, {"image": {"repository": "a", "tag": "1"}}, {"image": {"repository": "a", "digest": DIGEST}}):
        yield from ({**image, "updatePolicy": asked} for asked in UPDATES)
    tagged = {"image": {"repository": "a", "tag": "1"}}
    for field, values in UPDATE_VALUES.items():
        for value in values:
            yield from ({**tagged, "updatePolicy": {"strategy": one, field: value}} for one in ("Auto", "Notify"))


def lifecycles() -> Iterator[Json]:
    """Lifecycles with each value of each of their fields, beside a time and alone."""
    yield from LIFECYCLES
    for field in ("ttl", "shutdownTime", "idleTimeout", "shutdownPolicy"):
        for value in POOLS[field]:
            yield {field: value}
            yield {"ttl": "8h", field: value}


def _brokered(delivery: Json) -> Json:
    return {"credentials": {"apiKeySecretRef": {"name": "key"}, "delivery": delivery}}


def _kept_homes() -> Iterator[Json]:
    """What is kept of the home, of each type of workspace."""
    yield from ({"workspace": {"keepHome": {"size": size}}} for size in POOLS["size"])
    for kept in ({"size": "1Gi"}, {"size": "1Ti"}, {"size": "2Ti"}, {}, None, True, {"enabled": True}):
        yield from ({"workspace": {"type": type_, "keepHome": kept}} for type_ in ("EmptyDir", "PersistentVolumeClaim"))


def _told() -> Iterator[Json]:
    """Which Claude Code, and what names ConfigMaps."""
    for version in (
        "2.1.331",
        "2",
        "2.1.0-beta.1+x",
        "latest",
        ".2",
        "2.",
        "2 1",
        "2/1",
        "2\n",
        "",
        "1" * 63,
        "1" * 64,
        2,
    ):
        yield {"claudeCode": {"version": version}}
    for part in ("settings", "memory"):
        for name in ("team", "team.claude", "Team", "other/team", "", "a" * 254, None, 5):
            yield {"claudeCode": {part: {"name": name}}}
        for key in POOLS["key"]:
            yield {"claudeCode": {part: {"name": "team", "key": key}}}
        yield from ({"claudeCode": {part: wrong}} for wrong in ({}, [], "team", {"name": "a", "namespace": "b"}))


def _exceptions() -> Iterator[Json]:
    for field, values in EXCEPTIONS.items():
        yield [{key: value for key, value in EXCEPTION.items() if key != field}]
        yield from ([{**EXCEPTION, field: value}] for value in values)
    yield from (
        [],
        None,
        {},
        [None],
        ["RES-05"],
        [EXCEPTION, EXCEPTION],
        [EXCEPTION, {**EXCEPTION, "control": "ID-02"}],
    )
    yield [{**EXCEPTION, "until": "x"}]
    for count in (16, 17):
        yield [{**EXCEPTION, "control": f"RES-{number:02}"} for number in range(count)]


def _combinations() -> Iterator[Json]:
    yield from ({"compliance": {"exceptions": those}} for those in _exceptions())
    yield from _behind_a_gateway()
    yield from ({"backend": backend} for backend in BACKENDS)
    for name in HOST_NAMES:
        yield {"backend": {"type": "Docker", "hostRef": {"name": name}}}
    for labels in MATCH_LABELS:
        yield {"backend": {"type": "Docker", "hostSelector": {"matchLabels": labels}}}
    for backend in ({"type": "Docker"}, {"type": "Kubernetes"}, {}):
        yield from ({"backend": backend, "security": security} for security in SECURITIES)
    yield from ({"security": security} for security in SECURITIES)
    yield {"backend": {"type": "Docker"}, "workspace": {"storageClassName": "fast"}}
    yield {"backend": {"type": "Docker"}, "workspace": {"type": "EmptyDir"}}
    for text, count in ((4096, 8), (4096, 9), (4095, 8), (1, 64), (1, 65)):
        yield {"args": ["y" * text] * count}
    for count in (7, 8):
        yield {"env": [{"name": f"A{i}", "value": "y" * 4094} for i in range(count)]}
    yield {"env": [{"name": f"A{i}", "value": "y" * 4094} for i in range(8)] + [{"name": "B"}]}
    for numbers in ((8080, 8081), (8080, 8080)):
        yield {"network": {"ports": [{"name": f"a{i}", "containerPort": n} for i, n in enumerate(numbers)]}}
    for name in ("a", "b"):
        yield {"env": [{"name": "a"}, {"name": name}]}
        yield {"network": {"ports": [{"name": n, "containerPort": 8080 + i} for i, n in enumerate(("a", name))]}}
    for twice in ("192.0.2.0/24", "198.51.100.0/24"):
        yield {"network": {"egress": {"allowedCIDRs": ["192.0.2.0/24", twice]}}}
    for retention in ("Retain", "Delete"):
        yield {"workspace": {"type": "EmptyDir", "retention": retention}}
    for instance in (1, 2):
        yield {"workspace": {"type": "EmptyDir", "instance": instance}}
    yield from _kept_homes()
    yield {"workspace": {"type": "EmptyDir", "storageClassName": "fast"}}
    yield {"workspace": {"type": "EmptyDir", "readOnly": True}}
    for backend in ({"type": "Docker"}, {"type": "Kubernetes"}):
        for secrets in PULL_SECRETS:
            image = {"repository": "claude", "digest": DIGEST, "pullSecretRefs": secrets}
            yield {"backend": backend, "image": image}
    yield from _told()
    yield {"image": {"repository": "claude", "tag": "1"}}
    yield {"image": {"repository": "claude"}}


def document(name: str, spec: Json) -> Json:
    return {"apiVersion": meta.API_VERSION, "kind": meta.KIND, "metadata": {"name": name}, "spec": spec}
