"""What an administrator chooses for the operator as a whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from claude_sandbox.blueprint.model import Image, Site


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
    # Whether Docker hosts are looked after.
    docker: bool = False
    # What publishes the declared ports of sandboxes on Docker hosts: the operator's own image; None: nothing does.
    relay_image: Image | None = None
    # What the gateways of sandboxes on Kubernetes run: the operator's own image; None: no sandbox there has one.
    gateway_image: Image | None = None
    # What holds for all gateways, in the gateway's own format.
    gateways: Mapping[str, Any] = field(default_factory=dict)
    # Where the Lease and the credentials of Docker hosts are; None: the namespace of the operator's own credentials.
    lease_namespace: str | None = None
    identity: str | None = None
    workers: int = 24
    resync: float = 300.0
    bind_host: str = "0.0.0.0"  # noqa: S104 - a pod's own address; the pod's NetworkPolicy says who may connect
    bind_port: int = 8080
    kubeconfig: str | None = None
    shutdown_grace: float = 20.0
