"""What an account may do, as the API server's own authorizer answers."""

import json
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from claude_sandbox.kubernetes_api.credentials import Credentials

ACCOUNT = "system:serviceaccount:claude-sandbox-system:claude-sandbox-operator"
# Has no binding: what it may do, everyone may.
NOBODY = "system:serviceaccount:claude-sandbox-system:nobody"


@dataclass(frozen=True)
class Right:
    """A verb on a resource (`group/resource`, the core group is empty), perhaps on objects of some names only."""

    verb: str
    resource: str
    names: tuple[str, ...] = ()


def rights(credentials: Credentials, account: str, namespace: str) -> set[Right]:
    """All that the account may do in the namespace, beyond what every account may."""
    return _rights(credentials, account, namespace) - _rights(credentials, NOBODY, namespace)


def may(
    credentials: Credentials, account: str, verb: str, resource: str, namespace: str | None, name: str = ""
) -> bool:
    """The answer to a SubjectAccessReview; namespace None is the whole cluster, or what belongs to no namespace."""
    group, _, path = resource.partition("/")
    kind, _, subresource = path.partition("/")
    attributes = {"verb": verb, "group": group, "resource": kind, "subresource": subresource, "name": name}
    attributes["namespace"] = namespace or ""
    answer = _create(
        credentials,
        "SubjectAccessReview",
        {"user": account, "groups": _groups(account), "resourceAttributes": attributes},
    )
    return bool(answer["allowed"])


def _rights(credentials: Credentials, account: str, namespace: str) -> set[Right]:
    impersonated = [("Impersonate-User", account), *(("Impersonate-Group", group) for group in _groups(account))]
    found = _create(credentials, "SelfSubjectRulesReview", {"namespace": namespace}, impersonated)
    return {
        Right(verb, f"{group}/{resource}", tuple(sorted(rule.get("resourceNames") or ())))
        for rule in found["resourceRules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def _create(
    credentials: Credentials, kind: str, spec: dict[str, Any], headers: Iterable[tuple[str, str]] = ()
) -> dict[str, Any]:
    server = urlsplit(credentials.server)
    assert server.hostname
    connection = HTTPSConnection(server.hostname, server.port, context=credentials.ssl_context)
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
    with closing(connection):
        connection.putrequest("POST", f"/apis/authorization.k8s.io/v1/{kind.lower()}s")
        body = json.dumps(review).encode()
        for name, value in (("Content-Type", "application/json"), ("Content-Length", str(len(body))), *headers):
            # A header of its own for each group.
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        answer = response.read().decode()
    assert response.status == 201, answer
    status: dict[str, Any] = json.loads(answer)["status"]
    return status


def _groups(account: str) -> list[str]:
    namespace = account.split(":")[2]
    return ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
