"""What a control plane serves, for both Kubernetes versions, and to whom."""

import json
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from http import HTTPStatus
from http.client import HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from claude_sandbox.localcluster import cluster, status
from claude_sandbox.localcluster.cluster import Cluster

pytestmark = pytest.mark.controlplane

CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              low: {type: integer}
              high: {type: integer}
            x-kubernetes-validations:
            - rule: self.low <= self.high
              message: low must not be above high
"""


@pytest.fixture(scope="module", params=["1.34", "1.37"])
def plane(request: pytest.FixtureRequest, state_home: Path) -> Iterator[Cluster]:
    name = f"serves-{request.param.replace('.', '-')}"
    try:
        yield cluster.up(name, version=request.param, controllers=True, fsync=False, report=print)
    finally:
        cluster.down(name, print)


def kubectl(plane: Cluster, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["kubectl", "--kubeconfig", plane.kubeconfig, *arguments],
        input=stdin, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_it_is_the_version_it_says(plane: Cluster) -> None:
    served = json.loads(kubectl(plane, "get", "--raw", "/version").stdout)
    assert served["gitVersion"] == f"v{plane.version}"
    assert f"{served['major']}.{served['minor']}" == plane.version.rpartition(".")[0]
    assert status.status(plane.name).healthy


def test_a_custom_resource_is_validated_by_its_cel_rule(plane: Cluster) -> None:
    assert kubectl(plane, "apply", "-f", "-", stdin=CRD).returncode == 0
    established = kubectl(plane, "wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=30s")
    assert established.returncode == 0, established.stderr
    widget = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {{name: w}}\nspec: {{low: {}, high: {}}}\n"
    good = kubectl(plane, "apply", "-f", "-", stdin=widget.format(1, 2))
    assert good.returncode == 0, good.stderr
    bad = kubectl(plane, "apply", "-f", "-", stdin=widget.format(3, 2))
    assert "low must not be above high" in bad.stderr


def test_a_namespace_that_enforces_restricted_refuses_a_privileged_pod(plane: Cluster) -> None:
    kubectl(plane, "create", "namespace", "strict")
    kubectl(plane, "label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted")
    kubectl(plane, "-n", "strict", "wait", "--for=create", "serviceaccount/default", "--timeout=30s")
    override = '{"spec":{"containers":[{"name":"p","image":"p","securityContext":{"privileged":true}}]}}'
    refused = kubectl(plane, "-n", "strict", "run", "p", "--image=p", f"--overrides={override}")
    assert "violates PodSecurity" in refused.stderr


def test_what_is_owned_is_collected_and_what_can_be_scheduled_is_not_without_a_node(plane: Cluster) -> None:
    kubectl(plane, "create", "configmap", "owner")
    uid = kubectl(plane, "get", "configmap", "owner", "-o", "jsonpath={.metadata.uid}").stdout
    owned = (
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: owned\n  ownerReferences:\n"
        f"  - {{apiVersion: v1, kind: ConfigMap, name: owner, uid: {uid}}}\n"
    )
    assert kubectl(plane, "apply", "-f", "-", stdin=owned).returncode == 0
    kubectl(plane, "delete", "configmap", "owner")
    gone = kubectl(plane, "wait", "--for=delete", "configmap/owned", "--timeout=60s")
    assert gone.returncode == 0, gone.stderr
    kubectl(plane, "wait", "--for=create", "serviceaccount/default", "--timeout=30s")
    assert kubectl(plane, "run", "waiting", "--image=p").returncode == 0
    unschedulable = kubectl(
        plane, "wait", "pod/waiting", "--for=jsonpath={.status.conditions[0].reason}=Unschedulable", "--timeout=30s"
    )
    assert unschedulable.returncode == 0, unschedulable.stderr


def test_a_service_accounts_token_is_issued_and_accepted(plane: Cluster) -> None:
    kubectl(plane, "create", "serviceaccount", "robot")
    token = kubectl(plane, "create", "token", "robot").stdout.strip()
    # The API server prefers a certificate, so the token is sent without one.
    arguments = ["--token", token, "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"]
    who = subprocess.run(
        ["kubectl", "--kubeconfig", _without_user(plane), *arguments],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert who.stdout == "system:serviceaccount:default:robot", who.stderr


def _without_user(plane: Cluster) -> Path:
    bare = plane.layout.root / "bare-kubeconfig"
    shutil.copy(plane.kubeconfig, bare)
    kubectl_config = ["kubectl", "--kubeconfig", bare, "config"]
    context = subprocess.check_output([*kubectl_config, "current-context"], text=True).strip()
    subprocess.run([*kubectl_config, "set-context", context, "--user=nobody"], check=True, stdout=subprocess.DEVNULL)
    return bare


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer made-up"}, {"X-Remote-User": "kubernetes-admin"}])
def test_nobody_comes_in_without_a_certificate_or_a_token(plane: Cluster, headers: dict[str, str]) -> None:
    server = urlsplit(plane.server)
    trust = ssl.create_default_context(cafile=plane.layout.pki / "ca.crt")
    for path in ("/version", "/readyz", "/api/v1/namespaces"):
        connection = HTTPSConnection(server.hostname or "", server.port, timeout=10, context=trust)
        connection.request("GET", path, headers=headers)
        assert connection.getresponse().status == HTTPStatus.UNAUTHORIZED
        connection.close()


@pytest.mark.parametrize("component", ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"])
def test_every_component_listens_on_the_loopback_only_and_speaks_tls(plane: Cluster, component: str) -> None:
    (found,) = [one for one in status.status(plane.name).components if one.name == component]
    assert found.pid is not None
    assert {address for address, _ in _listening(found.pid)} == {"127.0.0.1"}
    for _, port in _listening(found.pid):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
            plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert b"200 OK" not in plain.recv(100)


def test_etcd_gives_nothing_to_one_without_its_client_certificate(plane: Cluster) -> None:
    assert b"200 OK" in _ask_etcd(plane, "apiserver-etcd-client")
    # The administrator's certificate is of another authority.
    for certificate in (None, "admin"):
        assert _ask_etcd(plane, certificate) == b""


def _ask_etcd(plane: Cluster, certificate: str | None) -> bytes:
    """The beginning of etcd's answer to one with this certificate; empty where it hangs up instead."""
    (etcd,) = [one for one in status.status(plane.name).components if one.name == "etcd"]
    pki = plane.layout.pki
    context = ssl.create_default_context(cafile=pki / "etcd-ca.crt")
    if certificate is not None:
        context.load_cert_chain(pki / f"{certificate}.crt", pki / f"{certificate}.key")
    with socket.create_connection(("127.0.0.1", urlsplit(etcd.endpoint).port or 0), timeout=30) as raw:
        try:
            with context.wrap_socket(raw, server_hostname="127.0.0.1") as connection:
                connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
                return connection.recv(1000)
        except TimeoutError:
            raise
        except OSError:
            # The refusal: an alert, or the end of the connection.
            return b""


def test_nothing_of_the_cluster_can_be_read_by_others(plane: Cluster) -> None:
    open_to_others = [path for path in plane.layout.root.rglob("*") if path.is_file() and path.stat().st_mode & 0o077]
    assert plane.layout.root.stat().st_mode & 0o777 == 0o700
    # etcd decides itself how its files are made; the directory above keeps others out.
    assert [path for path in open_to_others if not path.is_relative_to(plane.layout.etcd)] == []


def test_no_secret_is_in_the_arguments_or_environment_of_any_component(plane: Cluster) -> None:
    keys = {"".join(key.read_text().splitlines()[1:-1]).encode() for key in plane.layout.pki.glob("*.key")}
    assert keys
    for one in status.status(plane.name).components:
        seen = b"".join(Path(f"/proc/{one.pid}/{file}").read_bytes() for file in ("cmdline", "environ"))
        assert not any(key in seen for key in keys)


def _listening(pid: int) -> set[tuple[str, int]]:
    """The TCP addresses on which the process listens, from the kernel's own tables."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(descriptor)  # noqa: PTH115 - no file is behind the link
        except FileNotFoundError:
            # Closed since: what a server listens on stays open.
            continue
        if target.startswith("socket:["):
            inodes.add(target[len("socket:[") : -1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A" and columns[9] in inodes:
                address, _, port = columns[1].partition(":")
                raw = bytes.fromhex(address)
                text = socket.inet_ntoa(raw[::-1]) if len(raw) == 4 else address
                found.add((text, int(port, 16)))
    return found
