"""What a blueprint declares, in the terms in which compliance is judged. Pure."""

from claude_sandbox.api import meta
from claude_sandbox.api.spec import Level, Profile
from claude_sandbox.backends.kubernetes import tools
from claude_sandbox.backends.kubernetes.objects import CLONE_CONTAINER, CONTAINER
from claude_sandbox.blueprint import agent
from claude_sandbox.blueprint.model import Blueprint
from claude_sandbox.blueprint.tools import DIRECTORY
from claude_sandbox.compliance.evidence.exemptions import Exemption
from claude_sandbox.compliance.evidence.pods import Expected
from claude_sandbox.compliance.evidence.readings import ClaudeCode, ManagedSettings


def expected(
    blueprint: Blueprint,
    profile: Profile,
    allowed_registries: tuple[str, ...],
    plain_images: frozenset[str],
    level: Level = Level.SANDBOX,
    exemptions: tuple[Exemption, ...] = (),
) -> Expected:
    """What the live objects of the sandbox are measured against."""
    name, instance = blueprint.identity.name, blueprint.identity.workspace
    child = meta.child_name(name)
    return Expected(
        service_account=child,
        api_key_secret="" if blueprint.gateway is not None else blueprint.key.secret,
        container=CONTAINER,
        helpers=_helpers(blueprint),
        cloner=CLONE_CONTAINER if blueprint.git is not None else "",
        ports=tuple(port.number for port in blueprint.network.ports),
        egress_cidrs=tuple(block.cidr for block in blueprint.network.egress),
        egress_excepted=tuple(block.excepted for block in blueprint.network.egress),
        egress_ports=blueprint.network.egress_ports,
        dns=blueprint.network.dns,
        image_digest=blueprint.image.digest,
        allowed_registries=allowed_registries,
        image_refused=blueprint.image_refused,
        workspace_path=blueprint.workspace.path,
        workspace_read_only=blueprint.workspace.read_only,
        workspace_claim=meta.workspace_name(name, instance) if blueprint.workspace.volume else None,
        kept_claims=(
            {blueprint.kept_home.path: meta.home_name(name, instance)} if blueprint.kept_home is not None else {}
        ),
        policy_names=frozenset({child, meta.BASELINE_POLICY}),
        service_names=frozenset({child}),
        profile=profile,
        lifetime=blueprint.lifetime,
        seccomp_file=blueprint.seccomp_file,
        app_armor=blueprint.app_armor,
        level=level,
        exemptions=exemptions,
        plain_images=plain_images,
        gateway=meta.GATEWAY if blueprint.gateway is not None else None,
        gateway_ports=(agent.TLS_BROKER_PORT, agent.PROXY_PORT) if blueprint.gateway is not None else (),
        gateway_host=agent.GATEWAY_HOST if blueprint.gateway is not None else "",
        provider_secret=blueprint.key.secret,
        claude_code=_claude_code(blueprint),
        managed_settings=ManagedSettings(
            blueprint.settings.directory,
            blueprint.settings.file,
            blueprint.settings.content,
            blueprint.settings.files,
        ),
    )


def _helpers(blueprint: Blueprint) -> dict[str, str]:
    """The init containers that there may be, with their images."""
    brought, git = blueprint.tools, blueprint.git
    return {
        **({tools.NAME: brought.image.reference} if brought is not None else {}),
        **({CLONE_CONTAINER: git.image.reference} if git is not None else {}),
    }


def _claude_code(blueprint: Blueprint) -> ClaudeCode:
    brought = blueprint.tools
    if brought is None:
        return ClaudeCode(blueprint.image.reference, DIRECTORY)
    return ClaudeCode(
        brought.image.reference, brought.directory, True, blueprint.command, (tools.NAME, *tools.command(brought))
    )
