"""What the operator asks of the API server, as the API server itself counts it.

The API server's request metrics don't say who asked, but those of its flow control say which FlowSchema took a
request. So the operator's account gets FlowSchemas of its own, one for each kind of request, all of the priority level
that it would have anyway.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import aiohttp

from claude_sandbox.api import meta
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import Credentials
from claude_sandbox.kubernetes_api.resources import NAMESPACES, Resource

FLOW_SCHEMAS = Resource("flowcontrol.apiserver.k8s.io", "v1", "flowschemas", False, "FlowSchema")

_PREFIX = "bench-"
_COUNTER = re.compile(r'apiserver_flowcontrol_dispatched_requests_total\{flow_schema="bench-([^"]+)"[^}]*\} (\S+)')
_REQUESTS = re.compile(r"apiserver_request_total\{([^}]*)\} (\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')
# Before the FlowSchema for all service accounts, which has 9000.
_FIRST = 500


@dataclass(frozen=True)
class Kind:
    """A kind of request: its name in reports, verbs and resources (both `*` for any)."""

    name: str
    verbs: tuple[str, ...]
    resources: tuple[str, ...] = ("*",)
    writes: bool = False
    """Whether it changes what is stored."""


_CREATE, _CHANGE, _DELETE = ("create",), ("update", "patch"), ("delete", "deletecollection")

# The first that fits takes the request.
KINDS = (
    Kind("lease", ("*",), ("leases",)),
    Kind("create-access-review", _CREATE, ("localsubjectaccessreviews", "subjectaccessreviews")),
    Kind("create-serviceaccount", _CREATE, ("serviceaccounts",), writes=True),
    Kind("create-networkpolicy", _CREATE, ("networkpolicies",), writes=True),
    Kind("create-pod", _CREATE, ("pods",), writes=True),
    Kind("create-event", _CREATE, ("events",), writes=True),
    Kind("create-other", _CREATE, writes=True),
    Kind("patch-sandbox-status", _CHANGE, (f"{meta.PLURAL}/status",), writes=True),
    Kind("patch-event", _CHANGE, ("events",), writes=True),
    Kind("patch-other", _CHANGE, writes=True),
    Kind("delete", _DELETE, writes=True),
    Kind("get", ("get",)),
    Kind("list", ("list",)),
    Kind("watch", ("watch",)),
)


async def count_separately(api: Api, account: str, namespace: str) -> None:
    """Give the service account its FlowSchemas, and wait until the API server goes by them."""
    for place, kind in enumerate(KINDS):
        await api.create(FLOW_SCHEMAS, _flow_schema(kind, _FIRST + place, account, namespace))
    # The API server reads them by a watch of its own; nothing tells when it has.
    await asyncio.sleep(2)


def _flow_schema(kind: Kind, precedence: int, account: str, namespace: str) -> dict[str, Any]:
    rule = {
        "verbs": list(kind.verbs),
        "apiGroups": ["*"],
        "resources": list(kind.resources),
        "clusterScope": True,
        "namespaces": ["*"],
    }
    subject = {"kind": "ServiceAccount", "serviceAccount": {"name": account, "namespace": namespace}}
    return {
        "apiVersion": FLOW_SCHEMAS.api_version,
        "kind": FLOW_SCHEMAS.kind,
        "metadata": {"name": _PREFIX + kind.name},
        "spec": {
            "matchingPrecedence": precedence,
            "priorityLevelConfiguration": {"name": "workload-low"},
            "rules": [{"subjects": [subject], "resourceRules": [rule]}],
        },
    }


@dataclass(frozen=True)
class Account:
    """Counts since the API server's start, or between two such moments."""

    operator: Mapping[str, int]
    """The operator's requests by `Kind.name`."""
    written: Mapping[str, int]
    """Changes by anyone, by the resource changed."""
    revision: int
    """The store's revision: grows by one with every change of anything."""

    def since(self, earlier: "Account") -> "Account":
        """What happened in between."""
        return Account(
            _minus(self.operator, earlier.operator),
            _minus(self.written, earlier.written),
            self.revision - earlier.revision,
        )

    @property
    def writes(self) -> int:
        """The operator's changes of what is stored, its Lease apart."""
        return sum(self.operator.get(kind.name, 0) for kind in KINDS if kind.writes)


def _minus(later: Mapping[str, int], earlier: Mapping[str, int]) -> dict[str, int]:
    return {name: count - earlier.get(name, 0) for name, count in later.items() if count != earlier.get(name, 0)}


class Accountant:
    """Reads the API server's metrics. Use with `async with`."""

    def __init__(self, api: Api, credentials: Credentials) -> None:
        self._api = api
        self._credentials = credentials

    async def __aenter__(self) -> "Accountant":
        connector = aiohttp.TCPConnector(ssl=self._credentials.ssl_context or True)
        self._session = aiohttp.ClientSession(self._credentials.server, connector=connector)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def read(self) -> Account:
        """The counts now."""
        revision = int((await self._api.list(NAMESPACES)).resource_version)
        async with self._session.get("/metrics") as response:
            response.raise_for_status()
            text = await response.text()
        return Account(operator_counts(text), written(text), revision)


def operator_counts(metrics: str) -> dict[str, int]:
    """From the API server's metrics: the operator's requests by kind."""
    counts: Counter[str] = Counter()
    for name, value in _COUNTER.findall(metrics):
        counts[name] += int(float(value))
    return dict(counts)


def written(metrics: str) -> dict[str, int]:
    """From the API server's metrics: successful changes by anyone, by resource."""
    counts: Counter[str] = Counter()
    for text, value in _REQUESTS.findall(metrics):
        labels = dict(_LABEL.findall(text))
        if labels["verb"] in ("POST", "PUT", "PATCH", "APPLY", "DELETE") and labels["code"].startswith("2"):
            if labels["resource"].endswith("reviews") or labels.get("dry_run"):
                continue  # asks, and stores nothing
            counts["/".join(filter(None, (labels["resource"], labels["subresource"])))] += int(float(value))
    return dict(counts)
