"""What an administrator says of a Docker host: the models of `DockerHost.spec`."""

from typing import Annotated

from pydantic import Field

from claude_sandbox.api import names, networks, references
from claude_sandbox.api.docker_hosts import endpoints
from claude_sandbox.api.docker_hosts.endpoints import Address, Endpoint, parse
from claude_sandbox.api.docker_hosts.incident import HostIncident, HostIncidentState
from claude_sandbox.api.labels import LabelSelector
from claude_sandbox.api.model import Choice
from claude_sandbox.api.names import HOST_SECRET_NAME, NAMESPACE
from claude_sandbox.api.quantity import Quantity, at_least, at_most
from claude_sandbox.api.rules import Rule, matching
from claude_sandbox.api.spec import Image, Strict


class HostSecretRef(Strict):
    """A Secret in the operator's own namespace, which opted in."""

    name: Annotated[str, Field(min_length=1, max_length=253), HOST_SECRET_NAME]
    """The Secret's name. It has to be in the operator's own namespace, so that a DockerHost can point at no other."""


class Capacity(Strict):
    """How much of the host sandboxes may take together. What is left out follows from the engine."""

    sandboxes: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """How many sandboxes at most. Without it, as many as there is memory for."""
    cpu: Annotated[Quantity, at_least("100m"), at_most("4096")] | None = None
    """Sum of the sandboxes' CPU limits, in cores. Without it only each sandbox alone has to fit.

    A limit reserves nothing, so a host can give more than it has.
    """
    memory: Annotated[Quantity, at_least("256Mi", ": write a unit, for example 64Gi"), at_most("64Ti")] | None = None
    """Sum of the sandboxes' memory limits, and of 96Mi for each that publishes ports.

    Without it nine tenths of the host's memory.
    """


class AllowedNamespaces(Strict):
    """Which namespaces' sandboxes may run on the host: those named and those chosen by label. By default none.

    Whoever may set labels on namespaces decides whom a selector chooses; that is an administrator's right.
    """

    names: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=63), NAMESPACE]],
        Field(max_length=64),
    ] = []
    """Namespaces by name."""
    selector: LabelSelector | None = None
    """Namespaces by label."""

    def permits(self, namespace: str, labels: dict[str, str] | None) -> bool:
        """Whether sandboxes of the namespace may use the host; with labels that are not known, by name only."""
        if namespace in self.names:
            return True
        return self.selector is not None and labels is not None and self.selector.matches(labels)


class PortRange(Strict):
    """Ports of the host, the first and the last included. By default 30000 to 32767, as node ports of Kubernetes."""

    first: Annotated[int, Field(ge=1024, le=65535)] = 30000
    """The lowest port."""
    last: Annotated[int, Field(ge=1024, le=65535)] = 32767
    """The highest port."""

    RULES = (
        Rule(
            # The API server also tries this on the schema's own default, an object without any field.
            "!has(self.first) || !has(self.last) || self.first <= self.last",
            lambda ports: ports.first <= ports.last,
            "must not be below first: write the higher of the two as last",
            field="last",
        ),
    )


class AllowedImages(Strict):
    """Images that sandboxes on the host may name."""

    repository: Annotated[str, Field(min_length=1, max_length=255), names.REPOSITORIES_OR_ALL]
    """A repository with its registry, and all below it: `ghcr.io/acme` allows ghcr.io/acme/claude too. `*` allows all.

    Docker's own images are below docker.io/library. Registries are compared letter by letter.
    """
    require_digest: bool = False
    """Allows only images that are named by their digest, so that nobody else can exchange what runs."""

    def permits(self, image: Image) -> bool:
        """Whether a sandbox may name this image."""
        named = references.parse(references.joined(image.repository, image.tag, image.digest))
        if named is None or (self.require_digest and not named.digest):
            return False
        return self.repository == "*" or references.is_among(named.repository, (self.repository,))


class RegistryCredentials(Strict):
    """What the host's engine logs in to a registry with, for some of its repositories."""

    repository: Annotated[str, Field(min_length=1, max_length=255), names.REPOSITORIES]
    """A repository with its registry, and all below it. Of several that match the longest counts."""
    secret_ref: HostSecretRef
    """A Secret with the keys username and password, which opted in as those for connecting to Docker hosts do."""


class HostImages(Strict):
    """Which images sandboxes on the host may be made of, how they are had, and when they go.

    A sandbox without spec.image runs the operator's own default image, which needs no permission.
    """

    allowed: Annotated[list[AllowedImages], Field(max_length=64)] = []
    """Images that sandboxes may name, whether they are pulled or on the host already. By default none."""
    credentials: Annotated[list[RegistryCredentials], Field(max_length=32)] = []
    """What registries are logged in to with. By default nothing: what anybody may pull is pulled, and nothing else.

    Whoever may use the host gets what these can pull, as far as `allowed` lets them name it.
    """
    remove_unused: bool = True
    """Removes images that the operator had pulled once no container is of them. Others are never touched."""
    remove_unused_after_hours: Annotated[int, Field(ge=0, le=8760)] = 24
    """For how many hours such an image is kept after it was needed last."""

    def permits(self, image: Image | None) -> bool:
        """Whether a sandbox may run the image; None for the operator's default."""
        return image is None or any(one.permits(image) for one in self.allowed)

    def secret_for(self, repository: str) -> str | None:
        """The name of the Secret to log in with for a completed repository; None for nobody."""
        found = [one for one in self.credentials if references.is_among(repository, (one.repository,))]
        return max(found, key=lambda one: len(one.repository)).secret_ref.name if found else None


class VolumeSizes(Choice):
    """Whether volumes have to have a size that the engine enforces."""

    IF_POSSIBLE = "IfPossible"
    """Where the engine can, which is found out with the first volume; a sandbox says where its own has none."""
    REQUIRED = "Required"
    """No volume is made without. Sandboxes whose workspace is in memory are not concerned."""


class HostStorage(Strict):
    """How sandboxes' files are kept on the host's disk."""

    sizes: VolumeSizes = VolumeSizes.IF_POSSIBLE
    """Whether workspaces, and what is kept of homes, have to have a size that the engine enforces.

    It can where its data is on XFS or ext4 that is mounted with project quotas (prjquota). Volumes that are there
    already stay as they are.
    """


def _scheme_is(spec: "DockerHostSpec", scheme: endpoints.Scheme) -> bool:
    return spec.endpoint.startswith(f"{scheme}://")


DISTINCT_RUNTIMES = Rule(
    "self.all(a, self.exists_one(b, a == b))",
    lambda runtimes: len(set(runtimes)) == len(runtimes),
    "lists a runtime twice: write each once",
)


class DockerHostSpec(Strict):
    """A Docker Engine that sandboxes may run on."""

    endpoint: Endpoint
    """Where the engine listens: unix:///path, tcp://host:port with mutual TLS, or ssh://user@host.

    Who can reach a Docker Engine's API is root on its host.
    """
    credentials_secret_ref: HostSecretRef | None = None
    """What the operator connects with: a Secret of type `claudesandbox.dev/docker-host`, or with that label "true".

    For tcp:// it has the keys ca.crt, tls.crt and tls.key, for ssh:// the keys ssh-privatekey and known_hosts. Without
    one, ssh:// uses the ssh configuration of the user that the operator runs as.
    """
    insecure: bool = False
    """Connects to tcp:// without TLS. Anyone on the way can then take over the host, and it is never Compliant."""
    capacity: Capacity = Capacity()
    """How much of the host sandboxes may take together."""
    unschedulable: bool = False
    """Places no further sandboxes on the host. Those that are on it stay."""
    drain: bool = False
    """Places no further sandboxes on the host, and moves those that lose nothing by it to others.

    These have a workspace of type EmptyDir, don't name the host, and either don't run or say by their update strategy
    (Recreate) that their container may be replaced. The others stay, and go on running; the condition Drained and
    `status.drain` say which and why.
    """
    incident: HostIncident | None = None
    """That the host is compromised: nothing is placed there, asked of it or given to it any more."""
    allowed_namespaces: AllowedNamespaces = AllowedNamespaces()
    """Which namespaces' sandboxes may run on the host. By default none."""

    storage: HostStorage = HostStorage()
    """How sandboxes' files are kept on the host's disk."""
    images: HostImages = HostImages()
    """Which images sandboxes on the host may be made of, how they are had, and when they go."""

    allowed_runtimes: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=253), names.RUNTIME_CLASS]],
        Field(max_length=16),
        DISTINCT_RUNTIMES,
    ] = []
    """Runtimes of the engine, as `docker info` calls them, that sandboxes may ask for, for example runsc.

    By default none: sandboxes run with the engine's default-runtime.
    """

    backup_directory: (
        Annotated[
            str,
            Field(min_length=2, max_length=200),
            matching("(?:/[A-Za-z0-9_][-.A-Za-z0-9_]*)+", "must be an absolute path, for example /srv/backups"),
        ]
        | None
    ) = None
    """A directory of the host for backups of its sandboxes. Each namespace has one of its own in it, and sees no other.

    By default none: there are no backups then. It has no bound: put it on a file system of its own, best one that
    outlives the host.
    """

    publish_addresses: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=39), networks.ADDRESS]],
        Field(max_length=16),
        networks.DISTINCT_ADDRESSES,
    ] = []
    """Addresses of the host, besides 127.0.0.1 and ::1, that sandboxes may publish their declared ports on.

    By default none: then only the host itself can connect to a sandbox. 0.0.0.0 stands for every address.
    """
    publish_ports: PortRange = PortRange()
    """Ports of the host that sandboxes may choose as hostPort.

    Who may have any could stand in for a service of the host that is not running at the moment.
    """

    RULES = (
        Rule(
            "!self.endpoint.startsWith('tcp://') || has(self.credentialsSecretRef) || self.insecure",
            lambda spec: not _scheme_is(spec, "tcp") or spec.credentials_secret_ref is not None or spec.insecure,
            "is needed for tcp://, since who reaches a Docker Engine without TLS is root on its host: name a Secret"
            " with ca.crt, tls.crt and tls.key, or use ssh://",
            field="credentialsSecretRef",
        ),
        Rule(
            "!self.endpoint.startsWith('unix://') || !has(self.credentialsSecretRef)",
            lambda spec: not _scheme_is(spec, "unix") or spec.credentials_secret_ref is None,
            "means nothing for unix://, which the socket's owner and mode protect: remove it",
            field="credentialsSecretRef",
        ),
        Rule(
            "!self.insecure || (self.endpoint.startsWith('tcp://') && !has(self.credentialsSecretRef))",
            lambda spec: not spec.insecure or (_scheme_is(spec, "tcp") and spec.credentials_secret_ref is None),
            "is only for tcp:// without spec.credentialsSecretRef: remove it",
            field="insecure",
        ),
    )

    @property
    def compromised(self) -> bool:
        """Whether it is declared to be."""
        return self.incident is not None and self.incident.state is HostIncidentState.HOST_COMPROMISED

    @property
    def address(self) -> Address:
        """The endpoint, taken apart."""
        return parse(self.endpoint)
