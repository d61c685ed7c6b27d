"""What an administrator chooses for the operator as a whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from claude_sandbox.backends.probing.wanted import Named
from claude_sandbox.blueprint.model import Image, Site
from claude_sandbox.controller.sandboxes.incidents.revocation import Hook
from claude_sandbox.trail.settings import TrailSettings


@dataclass(frozen=True)
class Settings:
    """One operator process.

    `namespaces` empty: the whole cluster. `secrets` false: the operator has no permission on Secrets and does not
    try. Times in seconds.
    """

    site: Site
    namespaces: tuple[str, ...] = ()
    secrets: bool = True
    allowed_registries: tuple[str, ...] = ()
    # Images of sandboxes that are known to declare no VOLUME, as pods name them.
    plain_images: frozenset[str] = frozenset()
    leader_election: bool = True
    # Whether the Lease is renewed where no leader is elected, so that it says that the operator runs.
    renew_lease: bool = False
    # Whether Docker hosts are looked after.
    docker: bool = False
    # What publishes the declared ports of sandboxes on Docker hosts: the operator's own image; None: nothing does.
    relay_image: Image | None = None
    # Where people are let into sandboxes on Docker hosts: NAMESPACE/NAME:PORT of a Service or https://HOST:PORT; None:
    # nowhere. And what listens there; its certificate and key are files, None: made at the start.
    sessions_at: str | None = None
    sessions_certificate: tuple[str, str] | None = None
    sessions_bind: tuple[str, int] = ("0.0.0.0", 8443)  # noqa: S104 - as `bind_host`
    # What the gateways of sandboxes on Kubernetes run: the operator's own image; None: no sandbox there has one.
    gateway_image: Image | None = None
    # What holds for all gateways, in the gateway's own format.
    gateways: Mapping[str, Any] = field(default_factory=dict)
    # Whether agents on the nodes are asked what the nodes' kernels say of sandboxes' pods.
    node_agent: bool = False
    node_agent_interval: float = 100.0
    # Where the Lease, the credentials of Docker hosts and evidence are; None: the namespace of the operator's own
    # credentials.
    lease_namespace: str | None = None
    workers: int = 24
    resync: float = 300.0
    # How often a registry is asked what a tag stands for that sandboxes follow.
    image_check_interval: float = 900.0
    # How often what can be reached from each sandbox is tried, on Docker and on Kubernetes; 0: never. And what else no
    # sandbox may reach.
    probe_interval: float = 600.0
    pod_probe_interval: float = 3600.0
    probe_targets: tuple[Named, ...] = ()
    backup_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks that are not public, and that backups may be sent to."""
    probe_control_namespace: str | None = None
    # What is told of compromised keys, so that it revokes them; None: nothing is.
    revocation_hook: Hook | None = None
    # Whose public key of age the memory of quarantined sandboxes is encrypted to; None: it is not kept.
    checkpoint_recipient: str | None = None
    # As which objects of the cluster reports are written: Auto, OpenReports or PolicyReports; None: as none.
    policy_reports: str | None = None
    # Whether policies of network plugins are looked at.
    plugin_policies: bool = False
    # Where the audit trail is written; None: there is none.
    trail: TrailSettings | None = None
    bind_host: str = "0.0.0.0"  # noqa: S104 - a pod's own address; the pod's NetworkPolicy says who may connect
    bind_port: int = 8080
    kubeconfig: str | None = None
    shutdown_grace: float = 20.0
