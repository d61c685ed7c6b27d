"""The control plane's programs: how each is started and how one asks whether it is well. Nothing is run here."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from claude_sandbox.localcluster.description import APISERVER, Description
from claude_sandbox.localcluster.health import Probe
from claude_sandbox.localcluster.layout import Layout
from claude_sandbox.localcluster.pki.pki import Files

ETCD = "etcd"
CONTROLLER_MANAGER = "kube-controller-manager"
SCHEDULER = "kube-scheduler"

# The users for whom kubeconfig files are written, by the component that reads the file.
_USERS = {CONTROLLER_MANAGER: "controller-manager", SCHEDULER: "scheduler"}
# Requests per second and burst of the controllers' clients: the defaults (20 to 50) would be what one measures
# when hundreds of sandboxes come and go on one machine.
_CLIENT_RATE = ("--kube-api-qps=500", "--kube-api-burst=1000")


@dataclass(frozen=True)
class Program:
    """A component as it is to run."""

    name: str
    argv: tuple[str, ...]
    inputs: tuple[Path, ...]
    """Files whose change calls for a restart."""
    probe: Probe
    patience: float
    """Seconds within which it is ready on a slow machine."""


def names(description: Description) -> tuple[str, ...]:
    """The components that the cluster is to have, in the order in which they are started."""
    return (ETCD, APISERVER, *((CONTROLLER_MANAGER, SCHEDULER) if description.controllers else ()))


def kubeconfig_users(description: Description) -> dict[str, str]:
    """The control plane's kubeconfig files: the file's name (in `layout.config`) and the user."""
    return {f"{name}.kubeconfig": _USERS[name] for name in names(description) if name in _USERS}


def programs(description: Description, layout: Layout, binaries: Mapping[str, Path]) -> tuple[Program, ...]:
    """The components of the cluster, in the order in which they are started."""
    makers = {
        ETCD: _etcd,
        APISERVER: _apiserver,
        CONTROLLER_MANAGER: _controller_manager,
        SCHEDULER: _scheduler,
    }
    return tuple(makers[name](description, layout, binaries[name]) for name in names(description))


def probe(description: Description, layout: Layout, name: str) -> Probe:
    """How to ask the component whether it is well."""
    host = description.host if name == APISERVER else "127.0.0.1"
    path = {ETCD: "/health", APISERVER: "/readyz"}.get(name, "/healthz")
    ca = "etcd-ca" if name == ETCD else "ca"
    client = "apiserver-etcd-client" if name == ETCD else "admin"
    pki = layout.pki
    return Probe(host, description.ports[name], path, Files(pki, ca).certificate, Files(pki, client))


def _etcd(description: Description, layout: Layout, binary: Path) -> Program:
    ours, ca = Files(layout.pki, "etcd"), Files(layout.pki, "etcd-ca").certificate
    client_url = f"https://127.0.0.1:{description.ports[ETCD]}"
    peer_url = f"https://127.0.0.1:{description.ports['etcd-peer']}"
    argv = (
        str(binary),
        f"--name={description.name}",
        f"--data-dir={layout.etcd}",
        f"--listen-client-urls={client_url}",
        f"--advertise-client-urls={client_url}",
        f"--listen-peer-urls={peer_url}",
        f"--initial-advertise-peer-urls={peer_url}",
        f"--initial-cluster={description.name}={peer_url}",
        f"--cert-file={ours.certificate}",
        f"--key-file={ours.key}",
        f"--trusted-ca-file={ca}",
        "--client-cert-auth",
        f"--peer-cert-file={ours.certificate}",
        f"--peer-key-file={ours.key}",
        f"--peer-trusted-ca-file={ca}",
        "--peer-client-cert-auth",
        *(() if description.fsync else ("--unsafe-no-fsync",)),
    )
    inputs = (ours.certificate, ca)
    return Program(ETCD, argv, inputs, probe(description, layout, ETCD), 60)


def _apiserver(description: Description, layout: Layout, binary: Path) -> Program:
    pki = layout.pki
    serving, ca = Files(pki, "apiserver"), Files(pki, "ca").certificate
    etcd_client, kubelet_client = Files(pki, "apiserver-etcd-client"), Files(pki, "apiserver-kubelet-client")
    front_proxy = Files(pki, "front-proxy-client")
    etcd_ca, front_proxy_ca = Files(pki, "etcd-ca").certificate, Files(pki, "front-proxy-ca").certificate
    argv = (
        str(binary),
        f"--bind-address={description.host}",
        f"--secure-port={description.ports[APISERVER]}",
        f"--advertise-address={description.host}",
        # Without a node nobody can use the `kubernetes` Service, and a loopback address is no valid endpoint of it.
        f"--endpoint-reconciler-type={'lease' if description.node else 'none'}",
        f"--tls-cert-file={serving.certificate}",
        f"--tls-private-key-file={serving.key}",
        f"--client-ca-file={ca}",
        "--anonymous-auth=false",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--profiling=false",
        f"--etcd-servers=https://127.0.0.1:{description.ports[ETCD]}",
        f"--etcd-cafile={etcd_ca}",
        f"--etcd-certfile={etcd_client.certificate}",
        f"--etcd-keyfile={etcd_client.key}",
        f"--service-cluster-ip-range={description.addresses.service_cidr}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki / 'service-account.pub'}",
        f"--service-account-signing-key-file={Files(pki, 'service-account').key}",
        f"--kubelet-certificate-authority={ca}",
        f"--kubelet-client-certificate={kubelet_client.certificate}",
        f"--kubelet-client-key={kubelet_client.key}",
        # The node's name is in no DNS; `exec` and `logs` go to its address.
        "--kubelet-preferred-address-types=InternalIP",
        f"--requestheader-client-ca-file={front_proxy_ca}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={front_proxy.certificate}",
        f"--proxy-client-key-file={front_proxy.key}",
        # The API server runs outside the node, where Service addresses mean nothing: go to the pods themselves.
        "--enable-aggregator-routing=true",
    )
    inputs = (
        serving.certificate, ca, etcd_client.certificate, etcd_ca, kubelet_client.certificate,
        front_proxy.certificate, front_proxy_ca, pki / "service-account.pub",
    )  # fmt: skip
    return Program(APISERVER, argv, inputs, probe(description, layout, APISERVER), 90)


def _controller_manager(description: Description, layout: Layout, binary: Path) -> Program:
    ca = Files(layout.pki, "ca")
    arguments = (
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={Files(layout.pki, 'service-account').key}",
        f"--root-ca-file={ca.certificate}",
        f"--cluster-name={description.name}",
        f"--cluster-signing-cert-file={ca.certificate}",
        f"--cluster-signing-key-file={ca.key}",
        f"--service-cluster-ip-range={description.addresses.service_cidr}",
        # It makes the directory at its start, and the default one belongs to the machine.
        f"--flex-volume-plugin-dir={layout.run / 'flexvolume'}",
        *(_node_networks(description) if description.node else ()),
    )
    extra_inputs = (ca.certificate, layout.pki / "service-account.pub")
    return _controller(CONTROLLER_MANAGER, description, layout, binary, arguments, extra_inputs=extra_inputs)


def _node_networks(description: Description) -> tuple[str, ...]:
    # There is one node, which has all of it.
    pods = description.addresses.pod_cidr
    size = pods.partition("/")[2]
    return (
        "--allocate-node-cidrs=true",
        f"--cluster-cidr={pods}",
        f"--node-cidr-mask-size={size}",
    )


def _scheduler(description: Description, layout: Layout, binary: Path) -> Program:
    return _controller(SCHEDULER, description, layout, binary)


def _controller(
    name: str,
    description: Description,
    layout: Layout,
    binary: Path,
    arguments: tuple[str, ...] = (),
    *,
    extra_inputs: tuple[Path, ...] = (),
) -> Program:
    kubeconfig = layout.config / f"{name}.kubeconfig"
    serving, ca = Files(layout.pki, _USERS[name]), Files(layout.pki, "ca").certificate
    argv = (
        str(binary),
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--client-ca-file={ca}",
        "--bind-address=127.0.0.1",
        f"--secure-port={description.ports[name]}",
        f"--tls-cert-file={serving.certificate}",
        f"--tls-private-key-file={serving.key}",
        # There is one of each, so nothing is to be elected, and a restart takes over at once.
        "--leader-elect=false",
        "--profiling=false",
        *_CLIENT_RATE,
        *arguments,
    )
    inputs = (kubeconfig, serving.certificate, *extra_inputs)
    return Program(name, argv, inputs, probe(description, layout, name), 60)
