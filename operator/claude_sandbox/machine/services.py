"""The programs that run for good: what each is started with and what it is given. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from claude_sandbox.install.manifests import NAMESPACE
from claude_sandbox.localcluster.network import SERVICE_CIDR
from claude_sandbox.localcluster.pki.pki import Files
from claude_sandbox.machine.keys import SESSIONS
from claude_sandbox.machine.places import APISERVER, CONTROLLERS, ETCD, OPERATOR, Places
from claude_sandbox.machine.settings import Settings

_HOST = "127.0.0.1"
# systemd's name for the directory in which a service, and nobody else, finds its credentials.
_GIVEN = "${CREDENTIALS_DIRECTORY}"


@dataclass(frozen=True)
class Service:
    """A program as a service."""

    name: str
    description: str
    argv: tuple[str, ...]
    credentials: Mapping[str, Path]
    """Files of root's that the service gets a copy of, by the names that it knows them by."""
    after: tuple[str, ...] = ()
    """Units that are started before it, if they are started at all."""
    notifies: bool = False
    """Whether it tells systemd when it is ready."""
    state: str | None = None
    """A directory of its own below /var/lib."""
    groups: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    stays: bool = True
    """Whether it has no business beyond this machine's own loopback addresses."""
    watches: bool = False
    """Whether it looks at processes of others: the operator measures what the kernel says of a container."""


def services(settings: Settings, places: Places) -> tuple[Service, ...]:
    """All of them, in the order in which they are started."""
    return (
        _etcd(settings, places),
        _apiserver(settings, places),
        _controllers(settings, places),
        _operator(settings, places),
    )


def etcd_members(settings: Settings) -> tuple[str, ...]:
    """What etcd's data has to be made with for `--initial-cluster` to be true of it."""
    peer = f"https://{_HOST}:{settings.ports.etcd_peer}"
    return ("--name=machine", f"--initial-cluster=machine={peer}", f"--initial-advertise-peer-urls={peer}")


def _etcd(settings: Settings, places: Places) -> Service:
    client = f"https://{_HOST}:{settings.ports.etcd}"
    argv = (
        _program(settings, places, "etcd"),
        *etcd_members(settings),
        f"--data-dir={places.seen(places.etcd)}/data",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls=https://{_HOST}:{settings.ports.etcd_peer}",
        f"--cert-file={_GIVEN}/etcd.crt",
        f"--key-file={_GIVEN}/etcd.key",
        f"--trusted-ca-file={_GIVEN}/etcd-ca.crt",
        "--client-cert-auth",
        f"--peer-cert-file={_GIVEN}/etcd.crt",
        f"--peer-key-file={_GIVEN}/etcd.key",
        f"--peer-trusted-ca-file={_GIVEN}/etcd-ca.crt",
        "--peer-client-cert-auth",
    )
    given = {**_pair(places, "etcd"), **_authority(places, "etcd-ca")}
    return Service(ETCD, "etcd, where the control plane of claude-sandbox keeps its objects", argv, given,
                   notifies=True, state="claude-sandbox/etcd")  # fmt: skip


def _apiserver(settings: Settings, places: Places) -> Service:
    argv = (
        _program(settings, places, "kube-apiserver"),
        f"--bind-address={_HOST}",
        f"--advertise-address={_HOST}",
        f"--secure-port={settings.ports.apiserver}",
        # There are no pods, so nobody uses the Service `kubernetes`, and a loopback address is no endpoint of it.
        "--endpoint-reconciler-type=none",
        f"--tls-cert-file={_GIVEN}/apiserver.crt",
        f"--tls-private-key-file={_GIVEN}/apiserver.key",
        f"--client-ca-file={_GIVEN}/ca.crt",
        "--anonymous-auth=false",
        "--authorization-mode=RBAC",
        "--profiling=false",
        f"--etcd-servers=https://{_HOST}:{settings.ports.etcd}",
        f"--etcd-cafile={_GIVEN}/etcd-ca.crt",
        f"--etcd-certfile={_GIVEN}/apiserver-etcd-client.crt",
        f"--etcd-keyfile={_GIVEN}/apiserver-etcd-client.key",
        f"--encryption-provider-config={_GIVEN}/encryption.yaml",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={_GIVEN}/service-account.pub",
        f"--service-account-signing-key-file={_GIVEN}/service-account.key",
    )
    given = {
        **_pair(places, "apiserver"),
        **_authority(places, "ca"),
        **_pair(places, "apiserver-etcd-client"),
        **_authority(places, "etcd-ca"),
        "encryption.yaml": places.encryption,
        "service-account.pub": places.pki / "service-account.pub",
        "service-account.key": places.pki / "service-account.key",
    }
    return Service(APISERVER, "The API server of claude-sandbox", argv, given, (ETCD,), notifies=True)


def _controllers(settings: Settings, places: Places) -> Service:
    argv = (
        _program(settings, places, "kube-controller-manager"),
        f"--kubeconfig={_GIVEN}/kubeconfig",
        # Without them a namespace that is deleted stays for ever. The rest is for pods, of which there are none.
        "--controllers=namespace-controller,garbage-collector-controller",
        "--use-service-account-credentials=true",
        "--leader-elect=false",
        "--profiling=false",
        # It serves nothing.
        "--secure-port=0",
    )
    given = {"kubeconfig": places.kubeconfig(CONTROLLERS)}
    return Service(CONTROLLERS, "The controllers that remove what is deleted", argv, given, (APISERVER,))


def _operator(settings: Settings, places: Places) -> Service:
    argv = (
        *operator_command(settings),
        "run",
        "--docker",
        f"--kubeconfig={_GIVEN}/kubeconfig",
        f"--lease-namespace={NAMESPACE}",
        # There is one of it, so nothing is to be elected, and a restart takes over at once.
        *("--no-leader-election", "--renew-lease"),
        f"--sandbox-image={settings.image}",
        *([f"--relay-image={settings.relay}"] if settings.relay else ()),
        *([f"--gateway-settings={_GIVEN}/gateways.json"] if settings.gateways else ()),
        f"--bind={_HOST}:{settings.ports.operator}",
        # There are no pods, to which alone the API server's proxy leads: people come to the operator itself.
        f"--sessions-at=https://{_HOST}:{settings.ports.sessions}",
        f"--sessions-bind={_HOST}:{settings.ports.sessions}",
        f"--sessions-certificate={_GIVEN}/sessions.crt",
        f"--sessions-key={_GIVEN}/sessions.key",
        f"--trail-directory={places.seen(places.trail)}",
        f"--trail-key={_GIVEN}/{places.trail_key.name}",
        # systemd's journal keeps a second copy, which is not the operator's to change.
        "--trail-export=stdout",
        "--log-format=json",
    )
    given = {
        "kubeconfig": places.kubeconfig(OPERATOR),
        places.trail_key.name: places.trail_key,
        **_pair(places, SESSIONS),
    }
    if settings.gateways:
        given["gateways.json"] = places.gateways
    return Service(OPERATOR, "The operator of claude-sandbox", argv, given, (APISERVER, "docker.service"),
                   state="claude-sandbox/trail", groups=(settings.group,),
                   environment=operator_environment(settings, places), stays=False, watches=True)  # fmt: skip


def operator_command(settings: Settings) -> tuple[str, ...]:
    """The beginning of a command line of this program, as it is installed."""
    # Without the directory that it happens to be started in, and without what a user has installed.
    return (settings.python, "-s", "-P", "-m", "claude_sandbox.cli.main")


def operator_environment(settings: Settings, places: Places) -> dict[str, str]:
    """With which that command finds its packages."""
    packages = places.seen(places.programs / settings.operator)
    return {"PYTHONPATH": packages, "PYTHONDONTWRITEBYTECODE": "1"}


def _program(settings: Settings, places: Places, name: str) -> str:
    return places.seen(places.programs / settings.programs[name])


def _authority(places: Places, name: str) -> dict[str, Path]:
    return {f"{name}.crt": Files(places.pki, name).certificate}


def _pair(places: Places, name: str) -> dict[str, Path]:
    files = Files(places.pki, name)
    return {f"{name}.crt": files.certificate, f"{name}.key": files.key}
