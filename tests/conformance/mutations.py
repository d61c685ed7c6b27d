"""Writes docs/reference/mutations.md, by which change each control is seen to fail, and the page of each control.

With --check compares them.

`python -m tests.conformance.mutations`. The tables are those of the tests that make these changes.
"""

import importlib
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from claude_sandbox import generated
from claude_sandbox.api.status import Result
from claude_sandbox.compliance import pages
from claude_sandbox.compliance.catalogue import CONTROLS, POD_WITNESSED
from claude_sandbox.compliance.control import ContainerCheck, Control, Unmeasured
from claude_sandbox.compliance.docker_hosts.controls import CONTROLS as HOST_CONTROLS

PATH = Path("docs/reference/mutations.md")
_LONG = 60
_TESTS = Path(__file__).parents[1]

REFUSED = {
    "privileged": "privileged and without escalation is no pair",
    "a privileged init container": "privileged and without escalation is no pair",
    "said to be for Windows": "such a pod may have no user namespace and no Linux settings",
    "a Windows HostProcess": "such a pod has to be on the host's network",
    "another container": "a container has no probe without a handler",
    "a container that is called as what clones repositories": "a container has no probe without a handler",
    "a debug container": "one can only be added to a pod that is there",
    "a debug container that looks into the agent's": "one can only be added to a pod that is there",
    "a debug container without limits": "one can only be added to a pod that is there",
    "a debug container without a security context": "one can only be added to a pod that is there",
    "the workspace shared with another container": "one can only be added to a pod that is there",
    "key in another container": "one can only be added to a pod that is there",
    "the gateway's token in another container": "one can only be added to a pod that is there",
    "a raw block volume": "the workspace can't be mounted and be a device",
    "mounts seen by the host": "only a privileged container may",
    "another claim in the place of the workspace, for what clones": "it mounts a volume that the pod does not have",
    "a Service of somebody else's": "a Service has a port",
}
"""Mutations of pods that no API server takes as they are, and why."""
SHARES_THE_NODES_USERS = frozenset({"host process namespace", "host IPC namespace", "host network"})
"""Those that it takes of a pod alone whose users are the node's."""
DIFFERENT = {
    "token by default": "ID-01 ID-04",
    "token automounted": "ID-01 ID-04",
    "certificate by a volume": "",
    "host network": "NET-01 NET-13 NS-03 NS-06",
}
"""What the server makes of a pod in them: it mounts the token that is asked for, what it does not know it drops, and a
port on the host's network is one of the host's."""

_LIVE_PODS = "tests/api/compliance/test_live_mutations.py"
_KERNEL = "tests/docker/measurement/test_docker_kernel_witness.py"
_LIVE_CONTAINERS = "tests/docker/measurement/test_docker_live_mutations.py"
_NODE = "tests/e2e/test_kernel_of_a_node.py"
_ENGINES = "tests/api/controller/docker_hosts/test_docker_hosts_engines.py"
_ISOLATION = "tests/e2e/test_isolation_proven_on_a_node.py"
_LENT = "tests/e2e/test_what_a_node_lends.py"
_ENTERED = "somebody who enters the pod with more than it has"
_CONFINED_POD = "tests/node/test_node_app_armor.py"
_OF_A_NODE = {
    **dict.fromkeys(("PRIV-02", "PRIV-03", "PRIV-04", "PRIV-05"), _ENTERED),
    "KERN-01": f"{_ENTERED}; a file on the node that lets through what Strict refuses (`{_LENT}`)",
    "PRIV-01": f"{_ENTERED}, where root of the machine has every capability",
    "RES-03": "a limit of processes that is taken away",
    "RES-08": "more of a container's output than is to be kept, with an agent that sees it",
    "OPS-02": "a server for everybody, of a process whose first thread has ended",
    **dict.fromkeys(
        ("NET-03", "NET-05", "NET-09"), f"a policy that opens everything: what was denied is reached (`{_ISOLATION}`)"
    ),
    "NET-04": f"a metadata service on its node, and a policy that opens everything (`{_ISOLATION}`; on a node of IPv6"
    " alone, whose pods have a way to such an address, `tests/e2e/test_gateway_by_ipv6.py`)",
    "NET-07": f"a policy of its own that is gone, with all others: its gateway is not reached (`{_ISOLATION}`)",
    "KERN-02": f"a pod that is unconfined, where a profile is in force for others (`{_CONFINED_POD}`)",
    "KERN-07": f"a pod without a filter, and one that is privileged (`{_ISOLATION}`)",
}
"""What that module sees, or another that is named."""

_INTRODUCTION = f"""\
# How each control is seen to fail

<!-- Written by `python -m tests.conformance.mutations` from the tables of the tests. Change those instead. -->

For each control the changes that make it fail, one thing at a time, in tests that fail when it does not. An unchanged
sandbox passes all of them.

- **live**: of a real pod or container. For Kubernetes a real API server takes the changed objects, and what it answers
  is judged (`{_LIVE_PODS}`); what only a node reports is given.
  *On a node*: a process that is there in fact (`{_NODE}`). For Docker a sandbox's container, or
  its gateway, made anew by somebody else with one thing different (`{_LIVE_CONTAINERS}`), and
  containers of which the kernel alone is asked (`{_KERNEL}`). Of a Docker host a
  real engine with another setting, or on a machine that lacks something (`{_ENGINES}`).
- **document**: the same document as a live one's, with the change made in it: what the judge makes of it is seen, and
  not that it can come to be. What else of Docker is changed live, by somebody with the engine's socket, is in
  `tests/docker/faults`.
- **refused**: no API server takes it. It can only be of a pod that somebody writes around the API server.
"""


def _table(folder: str, module: str, *names: str) -> list[Mapping[str, tuple[Any, ...]]]:
    for path in (folder, "support/documents", "support/engines", "support/machine", "support/docker_sandboxes"):
        if str(_TESTS / path) not in sys.path:
            sys.path.append(str(_TESTS / path))
    found = importlib.import_module(module)
    return [getattr(found, name) for name in names]


def _by_control(tables: list[Mapping[str, tuple[Any, ...]]], which: int) -> dict[str, list[str]]:
    """Names of changes by the controls that fail; `which` of the entry's parts has these."""
    found: dict[str, list[str]] = defaultdict(list)
    for table in tables:
        for name, entry in table.items():
            for control in str(entry[which]).split():
                if not control.endswith("?"):
                    found[control].append(name)
    return found


def to_markdown() -> str:
    """The page of all of them."""
    return "\n".join(_lines(seen())) + "\n"


def files() -> dict[Path, str]:
    """What is written, by its place."""
    lines = seen()
    own = {PATH.parent / pages.file_of(one): pages.to_markdown(one, lines[one.id]) for one in pages.ALL}
    return {PATH: "\n".join(_lines(lines)) + "\n", **own}


def strangers(directory: Path) -> list[Path]:
    """Pages below the project's directory of controls that there are no more."""
    known = {path.name for path in files()}
    return [page for page in sorted((directory / PATH.parent / "controls").glob("*")) if page.name not in known]


def _lines(lines: Mapping[str, list[str]]) -> Iterator[str]:
    yield _INTRODUCTION
    for control in (*CONTROLS, *HOST_CONTROLS):
        yield f"## [{control.id}]({pages.file_of(control)}) {control.title}\n"
        yield from lines[control.id]
        yield ""


def seen() -> Mapping[str, list[str]]:
    """By the controls' identifiers, the lines of a list that say by which changes each is seen to fail."""
    pods = _table("unit/compliance/pods", "test_pod_mutations", "MUTATIONS")
    containers = _table("unit/compliance/containers", "test_container_mutations", "MUTATIONS", "BROKERED")
    loose = _table("docker/measurement", "test_docker_kernel_witness", "LOOSE")
    loose += _table("docker/measurement", "test_docker_live_mutations", "LIVE", "DECLARED")
    [standing] = _table("docker/measurement", "test_docker_live_mutations", "STANDING")
    by_pod, by_container, by_kernel = _by_control(pods, 1), _by_control(containers, 1), _by_control(loose, 0)
    for control_id, why in standing.items():
        by_kernel[control_id].append(str(why))
    lines = {
        control.id: [
            *_of_pods(control, by_pod.get(control.id, [])),
            *_of_containers(control, by_kernel.get(control.id, []), by_container.get(control.id, [])),
        ]
        for control in CONTROLS
    }
    return {**lines, **{control.id: list(_of_hosts(control)) for control in HOST_CONTROLS}}


def _of_hosts(control: Control) -> Iterator[str]:
    set_so, made_so = _table("api/controller/docker_hosts", "test_docker_hosts_engines", "SETTINGS", "MACHINES")
    changed = [(name, expected.get(control.id)) for name, (_, expected) in {**set_so, **made_so}.items()]
    live = [name for name, result in changed if result is Result.FAIL] + _AS_INSTALLED.get(control.id, [])
    mended = [name for name, result in changed if result is Result.PASS]
    if mended:
        live.append(f"an engine without what makes it pass ({_listed(mended)})")
    yield f"- Docker hosts, live: {_listed(live)}."
    [table] = _table("unit/compliance/docker_hosts", "test_host_controls", "MUTATIONS")
    told = [_told(changes) for changes, expected in table if expected.get(control.id) is Result.FAIL]
    yield f"- Docker hosts, document: {_listed(told)}."


_AS_INSTALLED = {
    "HOST-03": ["an engine whose default profile lets everything pass"],
    "HOST-04": [
        "an engine on a machine with neither AppArmor nor SELinux; one with AppArmor passes"
        " (`tests/docker/measurement/test_docker_app_armor.py`)"
    ],
    "HOST-05": ["an engine as it is installed; one that remaps users passes"],
    "HOST-08": ["an engine of release 20.10; one of 29 passes"],
    "HOST-09": ["an engine of release 20.10; one of 29 passes"],
}
"""What that module sees of engines besides."""


def _told(changes: Mapping[str, Any]) -> str:
    """A change of what an engine tells, in its own words."""
    words = []
    for part, change in changes.items():
        fields = change.items() if isinstance(change, Mapping) else [(part, change)]
        words += [f"`{name}` {_short(json.dumps(value))}" for name, value in fields]
    return " and ".join(words)


def _short(text: str) -> str:
    return f"`{text}`" if len(text) <= _LONG else f"`{text[:_LONG]}…`"


OTHERWISE = {
    "OPS-04": "it can't fail; what is old, or was not read, makes it Unknown, and so what rests on it",
    **dict.fromkeys(
        ("NET-03", "NET-09"),
        "each denied target is made reachable once, and the probe says so"
        " (`tests/docker/measurement/test_docker_probes.py`)",
    ),
    "NET-04": "a metadata service on a network that it is on, by IPv4 and IPv6"
    " (`tests/docker/measurement/test_docker_probes.py`)",
    "KERN-02": "a profile that only complains, and one that is taken away from under a container, of which the kernel"
    " alone tells (`tests/docker/measurement/test_docker_app_armor.py`)",
    "NET-07": "a gateway that does not listen (`tests/docker/measurement/test_docker_probes.py`)",
    "PRIV-07": "an image with such a program, of which the kernel's files tell"
    " (`tests/docker/measurement/test_docker_kernel_witness.py`)",
    "KERN-07": "a container without a filter lets calls through, and the probe says so"
    " (`tests/docker/measurement/test_docker_probes.py`)",
    "RES-07": "a workspace on an engine whose disk has no project quotas; on one that has them, where the machine's"
    " kernel does, it passes (`tests/docker/sandboxes/test_docker_room.py`)",
    "PRIV-08": "somebody works in it (`tests/attacks/measurement/test_attack_outside_session.py`)",
}
"""Of containers, what is no change of a document."""


def _of_pods(control: Control, names: list[str]) -> Iterator[str]:
    if control.pod is None:
        return
    if isinstance(control.pod, Unmeasured) and control.id not in POD_WITNESSED:
        yield f"- Kubernetes: not measured; it would take {control.pod.how}."
        return
    live = [name for name in names if name not in REFUSED and control.id in DIFFERENT.get(name, control.id)]
    refused = [f"{name} ({REFUSED[name]})" for name in names if name in REFUSED]
    yield f"- Kubernetes, live: {_listed(live) or 'nothing that an API server alone could show'}."
    if control.id in _OF_A_NODE:
        yield f"- Kubernetes, live, on a node: {_OF_A_NODE[control.id]}."
    elif control.id in POD_WITNESSED:
        yield "- Kubernetes, document: what the node's kernel says (`tests/unit/compliance/pods/test_pod_kernel.py`)."
    if refused:
        yield f"- Kubernetes, refused: {_listed(refused)}."


def _of_containers(control: Control, live: list[str], documents: list[str]) -> Iterator[str]:
    if control.container is None:
        return
    if not isinstance(control.container, ContainerCheck):
        yield f"- Docker: not measured; it would take {control.container.how}."
        return
    if live:
        yield f"- Docker, live: {_listed(live)}."
    if control.id in OTHERWISE:
        yield f"- Docker, otherwise: {OTHERWISE[control.id]}."
    if documents or not (live or control.id in OTHERWISE):
        otherwise = "nothing in its document: see the tests of what is asked besides"
        yield f"- Docker, document: {_listed(documents) or otherwise}."


def _listed(names: list[str]) -> str:
    return "; ".join(name.removeprefix("... ") for name in dict.fromkeys(names))


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 where --check finds a difference."""
    of = "the catalogue and the tables of the tests"
    return generated.run(files(), "tests.conformance.mutations", of, arguments, strangers)


if __name__ == "__main__":
    sys.exit(main())
