"""`python -m claude_sandbox.probe`

One line of JSON comes on standard input: `nonce`, `seconds` for each attempt, `strict`, whether that filter is to be in
force, and `targets` (`name`, `host`, an IP address, `port`, `protocol`, `query`). One line of JSON goes to standard
output: `version`, the same `nonce`, the `routes` of this network, `attempts`, and `kernel` and `strict`, each call with
what came of it. The exit code: 0, or 1 where nothing was tried.
"""

import json
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from claude_sandbox.probe import LARGEST, MOST_TARGETS, VERSION, kernel, strict
from claude_sandbox.probe.attempts import ATTEMPTS, Target, attempt, self_test
from claude_sandbox.probe.outcomes import routes

_AT_A_TIME = 16
LONGEST = 10.0
"""Seconds that an attempt may be given."""
_TABLES = ("/proc/net/route", "/proc/net/ipv6_route")


def main(line: str) -> int:
    """Try what the line asks for, and print what came of it."""
    try:
        asked = json.loads(line)
        seconds = min(float(asked["seconds"]), LONGEST)
        targets = [target_in(one) for one in asked["targets"][:MOST_TARGETS]]
        nonce, narrow = str(asked["nonce"]), bool(asked.get("strict"))
    except (ValueError, KeyError, TypeError) as error:
        print(f"probe: what was asked is not understood: {type(error).__name__}", file=sys.stderr)
        return 1
    print(json.dumps({"version": VERSION, "nonce": nonce, **report(targets, seconds, narrow=narrow)}), flush=True)
    return 0


def report(targets: list[Target], seconds: float, *, narrow: bool = False) -> dict[str, Any]:
    """All attempts, some at a time, the routes, None where these are not understood, or too many, and what the kernel
    lets it do. `narrow`: also what the Strict filter alone refuses."""
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        found = [self_test(seconds), *pool.map(lambda one: attempt(one, seconds), targets)]
    try:
        known: list[str] | None = list(routes(*map(_table, _TABLES)))
    except (OSError, ValueError, IndexError):
        known = None
    # A list that is cut would leave out a way.
    if known is not None and len(known) > MOST_TARGETS:
        known = None
    return {
        "routes": known,
        "attempts": [asdict(one) for one in found],
        "kernel": [asdict(one) for one in kernel.calls()],
        "strict": [asdict(one) for one in strict.calls()] if narrow else [],
    }


def target_in(told: Mapping[str, Any]) -> Target:
    """Raises ValueError, KeyError or TypeError for what is none. No name is ever looked up: a host is an address."""
    port, protocol = int(told["port"]), str(told["protocol"])
    if not 0 < port < 1 << 16 or protocol not in ATTEMPTS:
        raise ValueError(protocol)
    return Target(str(told["name"]), str(ip_address(told["host"])), port, protocol, str(told.get("query") or ""))


def _table(path: str) -> str:
    # A kernel without IPv6 has no table of it.
    file = Path(path)
    return file.read_text() if file.exists() else ""


if __name__ == "__main__":
    sys.exit(main(sys.stdin.readline(LARGEST)))
