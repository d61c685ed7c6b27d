"""The one place that decides what is safe: a spec becomes a hardened workload."""

from collections.abc import Mapping

from claude_sandbox.api import quantity
from claude_sandbox.api.references import joined
from claude_sandbox.api.spec import ClaudeSandboxSpec, OperatingMode, Retention, WorkspaceType
from claude_sandbox.api.spec import Image as ImageSpec
from claude_sandbox.blueprint import agent, egress, repositories, services, tools
from claude_sandbox.blueprint.model import (
    Amounts,
    Blueprint,
    Gateway,
    Git,
    Identity,
    Image,
    KeptHome,
    KeyFile,
    NetworkRules,
    Port,
    Probe,
    Scratch,
    SettingsFile,
    Site,
    Tools,
    User,
    Volume,
    Workspace,
)
from claude_sandbox.claudecode.given import GIT_FILE
from claude_sandbox.claudecode.pinned import ANTHROPIC, Api

AGENT = User(uid=1000, gid=1000)
_MIB = 1 << 20
_TMP_SIZE = 256 * _MIB
_HOME_SIZE = 512 * _MIB


def build(identity: Identity, spec: ClaudeSandboxSpec, site: Site) -> Blueprint:
    """The workload that the spec asks for, hardened. Pure: the same arguments give the same blueprint."""
    ours = site.image_of(spec.claude_code.version)
    image = _image(spec.image) if spec.image else ours
    brought = tools.tools_for(image, ours)
    limits = _limits(spec, brought)
    reference = spec.credentials.secret_ref
    key = KeyFile(reference.name, reference.key, agent.KEY_DIRECTORY, agent.KEY_FILE)
    chosen = {variable.name: variable.value for variable in spec.env}
    executable = spec.security.executable_scratch
    gateway = agent.BY_GATEWAY if spec.on_docker else agent.BY_TLS_GATEWAY
    api = gateway if spec.credentials.brokered else ANTHROPIC
    workspace = _workspace(spec)
    git = repositories.git(spec.repositories, api, key.path, workspace.path, ours)
    pins = agent.managed_settings(key.path, chosen, api, brought=brought is not None)
    return Blueprint(
        identity=identity,
        running=spec.operating_mode is OperatingMode.RUNNING,
        image=image,
        command=tuple(spec.command) if brought is None else tools.ENTRY,
        args=tuple(spec.args) if brought is None else (*spec.command, *spec.args),
        environment=tuple(_environment(spec, api, chosen, brought, git).items()),
        user=AGENT,
        strict_groups=site.strict_groups,
        seccomp=spec.security.seccomp_profile.type,
        limits=limits,
        requests=_requests(limits),
        # Files in memory count towards the memory limit: together they may never fill it.
        scratch=(
            Scratch("tmp", "/tmp", min(_TMP_SIZE, limits.memory // 8), executable),  # noqa: S108
            Scratch("home", agent.HOME, min(_HOME_SIZE, limits.memory // 4), executable),
        ),
        workspace=workspace,
        key=key,
        settings=SettingsFile(agent.SETTINGS_DIRECTORY, agent.SETTINGS_FILE, pins, pins, _files(git, spec)),
        network=NetworkRules(
            egress=egress.blocks(spec.egress_cidrs, site.opened),
            egress_ports=tuple(spec.network.egress.allowed_ports),
            dns=spec.asks_resolver,
            ports=tuple(
                Port(port.name, port.container_port, port.effective_host_ip, port.host_port)
                for port in spec.network.ports
            ),
        ),
        startup=Probe(agent.liveness(brought=brought is not None), period=1, timeout=10, failures=120),
        # It shares the CPU with the agent: with a tenth of one, and programs at work, its quarter second takes long.
        readiness=Probe(agent.readiness(key.path, brought=brought is not None), period=30, timeout=25, failures=3),
        liveness=Probe(agent.liveness(brought=brought is not None), period=30, timeout=15, failures=4),
        grace_seconds=10,
        tools=brought,
        gateway=_gateway(spec),
        runtime_class=spec.security.runtime_class_name,
        seccomp_file=None if spec.on_docker or not spec.security.strict_seccomp else site.strict_profile,
        app_armor=spec.security.app_armor_profile,
        user_namespace=spec.security.user_namespace,
        kept_home=_kept_home(spec),
        git=git,
        lifetime=spec.lifecycle.bound if spec.lifecycle is not None else "",
    )


def _limits(spec: ClaudeSandboxSpec, brought: Tools | None) -> Amounts:
    """What the workload may use: what the spec says, and what a short-lived workspace and Claude Code take on top."""
    return Amounts(
        cpu_millicores=quantity.millicores(spec.resources.cpu),
        memory=quantity.bytes_of(spec.resources.memory),
        ephemeral_storage=quantity.bytes_of(spec.resources.ephemeral_storage)
        + _short_lived(spec)
        + (brought.size if brought is not None else 0),
    )


def _environment(
    spec: ClaudeSandboxSpec, api: Api, chosen: Mapping[str, str], brought: Tools | None, git: Git | None
) -> dict[str, str]:
    kept = agent.keeping() if spec.workspace.keep_home is not None else ()
    of_git = agent.git_environment(repositories.GIT_CONFIG) if git is not None else {}
    given = {**agent.environment(api), **dict(kept), **of_git, **services.environment(spec.services), **chosen}
    return given if brought is None else {**given, **tools.environment(chosen)}


def _files(git: Git | None, spec: ClaudeSandboxSpec) -> tuple[tuple[str, str], ...]:
    """What the operator itself puts beside the managed settings."""
    return (*(((GIT_FILE, git.config),) if git is not None else ()), *services.files(spec.services))


def _gateway(spec: ClaudeSandboxSpec) -> Gateway | None:
    if not spec.credentials.brokered:
        return None
    models = tuple(spec.model.allowed) if spec.model is not None else ()
    return Gateway(
        models,
        tuple(spec.network.egress.allowed_domains),
        spec.budget,
        spec.credentials.oauth,
        repositories=repositories.for_gateway(spec.repositories),
        services=services.for_gateway(spec.services),
    )


def parse_image(reference: str, pull_policy: str) -> Image:
    """An image as an administrator configures it, for example `example.org/claude@sha256:…`."""
    _, _, digest = reference.partition("@")
    return Image(reference, digest or None, pull_policy)


def _short_lived(spec: ClaudeSandboxSpec) -> int:
    """What a workspace without a volume takes of the node's storage: it comes on top of what was asked for."""
    volume = spec.workspace.type is WorkspaceType.PERSISTENT_VOLUME_CLAIM
    return 0 if volume else quantity.bytes_of(spec.workspace.size)


def _requests(limits: Amounts) -> Amounts:
    """What is reserved: all of the memory, which can't be taken back from a running agent, and a part of the rest.

    An agent mostly waits for its model: at rest Claude Code takes next to no CPU.
    """
    return Amounts(max(limits.cpu_millicores // 8, 1), limits.memory, limits.ephemeral_storage // 8)


def _image(spec: ImageSpec) -> Image:
    secrets = tuple(reference.name for reference in spec.pull_secret_refs)
    return Image(joined(spec.repository, spec.tag, spec.digest), spec.digest, spec.pull_policy, secrets)


def _kept_home(spec: ClaudeSandboxSpec) -> KeptHome | None:
    kept = spec.workspace.keep_home
    return None if kept is None else KeptHome(agent.CONFIG_DIRECTORY, _volume(spec, str(kept.size)))


def _volume(spec: ClaudeSandboxSpec, size: str) -> Volume:
    workspace = spec.workspace
    return Volume(size, workspace.storage_class_name, workspace.effective_retention is Retention.RETAIN)


def _workspace(spec: ClaudeSandboxSpec) -> Workspace:
    workspace = spec.workspace
    volume = None
    if workspace.type is WorkspaceType.PERSISTENT_VOLUME_CLAIM:
        volume = _volume(spec, str(workspace.size))
    return Workspace(agent.WORKSPACE, quantity.bytes_of(workspace.size), spec.effective_read_only, volume)
