"""The few calls to the API server that bringing up a node takes."""

import http.client
import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.node.manifests import Manifest

_TIMEOUT = 30
_MANAGER = "claude-sandbox-node"
_PLURALS = {"StorageClass": "storageclasses", "NetworkPolicy": "networkpolicies"}
_CLUSTER_SCOPED = ("ClusterRole", "ClusterRoleBinding", "StorageClass", "PersistentVolume", "Namespace", "Node")


@dataclass(frozen=True)
class Api:
    """The API server, as its administrator sees it."""

    server: str
    ca: Path
    certificate: Path
    key: Path

    def apply(self, manifest: Manifest) -> None:
        """Server-side apply. Raises LocalClusterError where the API server refuses."""
        name = manifest["metadata"]["name"]
        path = f"{collection(manifest)}/{name}?fieldManager={_MANAGER}&force=true"
        self._call("PATCH", path, manifest, "application/apply-patch+yaml")

    def get(self, path: str) -> dict[str, Any]:
        """The answer to a GET. Raises LocalClusterError where there is none."""
        return self._call("GET", path)

    def merge(self, path: str, patch: Manifest) -> None:
        """Change an object by a JSON merge patch. Raises LocalClusterError where the API server refuses."""
        self._call("PATCH", path, patch, "application/merge-patch+json")

    def _call(
        self, method: str, path: str, body: Manifest | None = None, content: str = "application/json"
    ) -> dict[str, Any]:
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(self.certificate, self.key)
        connection = http.client.HTTPSConnection(urlsplit(self.server).netloc, timeout=_TIMEOUT, context=context)
        try:
            headers = {"Content-Type": content, "Accept": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            text = response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise LocalClusterError(
                f"The API server did not answer {method} {path}: {error}.", "See `claude-sandbox cluster logs`."
            ) from error
        finally:
            connection.close()
        document: dict[str, Any] = json.loads(text)
        if response.status >= http.client.BAD_REQUEST:
            raise LocalClusterError(
                f"The API server refused {method} {path}: {document.get('message')}.",
                "See `claude-sandbox cluster logs kube-apiserver`.",
            )
        return document


def collection(manifest: Manifest) -> str:
    """The path of the collection that the object belongs to."""
    version, kind = manifest["apiVersion"], manifest["kind"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    plural = _PLURALS.get(kind, kind.lower() + "s")
    if kind in _CLUSTER_SCOPED:
        return f"{root}/{plural}"
    return f"{root}/namespaces/{manifest['metadata']['namespace']}/{plural}"
