"""What the command line of `claude-sandbox check` asks for."""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from claude_sandbox.api.spec import Level, Profile
from claude_sandbox.backends.kubernetes.evidence.single_pod import Standard
from claude_sandbox.blueprint.build import parse_image
from claude_sandbox.compliance.evidence.containers import Declared
from claude_sandbox.compliance.pods.undeclared import Declarations


@dataclass(frozen=True)
class Options:
    """How things are judged, and where their ClaudeSandboxes are read. Paths are without a slash at the end."""

    profile: Profile | None
    level: Level | None
    workspaces: tuple[str, ...]
    mounts: tuple[str, ...]
    peers: tuple[str, ...]
    secrets: tuple[str, ...]
    registries: tuple[str, ...]
    sandbox_image: str | None
    gateway_image: str | None
    plain_images: tuple[str, ...]
    opened: tuple[IPv4Network | IPv6Network, ...]
    kubeconfig: str | None
    context: str | None

    @property
    def declared(self) -> Declared:
        """What a container is meant to be that no ClaudeSandbox declares."""
        return Declared(
            profile=self.profile or Profile.DEVELOPMENT,
            level=self.level or Level.SANDBOX,
            workspaces=frozenset(self.workspaces),
            mounts=frozenset(self.mounts),
            peers=frozenset(self.peers),
            allowed_registries=self.registries,
        )

    @property
    def standard(self) -> Standard:
        """What a sandbox is measured against beside its ClaudeSandbox, and a pod that has none."""
        return Standard(
            profile=self.profile,
            level=self.level,
            allowed_registries=self.registries,
            image=parse_image(self.sandbox_image, "IfNotPresent") if self.sandbox_image else None,
            gateway_image=parse_image(self.gateway_image, "IfNotPresent") if self.gateway_image else None,
            opened=self.opened,
            plain_images=frozenset(self.plain_images),
            declarations=Declarations(
                frozenset(self.workspaces), frozenset(self.secrets), tuple(map(str, self.opened))
            ),
        )
