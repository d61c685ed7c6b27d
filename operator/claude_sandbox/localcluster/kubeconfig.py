"""kubeconfig files with client certificates, complete in themselves."""

import base64
from pathlib import Path

import yaml

from claude_sandbox.localcluster.layout import write_private
from claude_sandbox.localcluster.pki.pki import Files


def render(cluster: str, user: str, server: str, ca: bytes, client: tuple[bytes, bytes]) -> str:
    """The text of a kubeconfig for one user of one cluster; `client` is its certificate and its key, PEM."""
    certificate, key = client
    context = f"claude-sandbox-{cluster}"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": context,
        "clusters": [{"name": context, "cluster": {"server": server, "certificate-authority-data": _base64(ca)}}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": f"{context}-{user}"}}],
        "users": [
            {
                "name": f"{context}-{user}",
                "user": {"client-certificate-data": _base64(certificate), "client-key-data": _base64(key)},
            }
        ],
    }
    text: str = yaml.safe_dump(document, sort_keys=False)
    return text


def ensure(path: Path, cluster: str, user: str, server: str, pki: Path) -> bool:
    """Write the kubeconfig of the user whose certificate is called `user`; False where it is there already."""
    client = Files(pki, user)
    text = render(
        cluster,
        user,
        server,
        Files(pki, "ca").certificate.read_bytes(),
        (client.certificate.read_bytes(), client.key.read_bytes()),
    )
    if path.exists() and path.read_text() == text:
        return False
    write_private(path, text)
    return True


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
