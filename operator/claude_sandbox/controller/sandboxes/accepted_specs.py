"""Which specs are carried out, and what they ask for.

Holds the specs that were understood last, by the sandbox's UID and generation: a new sandbox is looked at several times
within seconds, and a spec of one generation never changes. What it was started with (the site, and whether there are
Docker hosts) stays as it is for as long as it lives. Called by the passes, on the event loop; a crash loses time alone.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator

from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.api.validate import FieldError, InvalidSpec, parse_spec, refused_metadata
from claude_sandbox.blueprint.build import build
from claude_sandbox.blueprint.credentials import refused_credentials
from claude_sandbox.blueprint.egress import Network, out_of_reach, refused_domains
from claude_sandbox.blueprint.model import Blueprint, Identity, Site
from claude_sandbox.blueprint.repositories import refused_pushes, refused_repositories
from claude_sandbox.blueprint.services import refused_services
from claude_sandbox.compliance.catalogue import CONTROLS
from claude_sandbox.compliance.pods.policy_size import OUTSIZE
from claude_sandbox.compliance.policy import refused_exceptions
from claude_sandbox.controller.sandboxes.store import Raw

_CONTROLS = tuple(control.id for control in CONTROLS)

# A few for each pass at a time: beyond these, specs are understood anew.
REMEMBERED = 256


class AcceptedSpecs:
    """Of one operator. `docker`: whether it runs sandboxes on Docker hosts."""

    def __init__(self, site: Site, *, docker: bool) -> None:
        self._site = site
        self._docker = docker
        # The one that was asked for last at the end.
        self._understood: OrderedDict[tuple[str, int], tuple[ClaudeSandboxSpec, Blueprint]] = OrderedDict()

    def of(self, raw: Raw, identity: Identity) -> tuple[ClaudeSandboxSpec, Blueprint]:
        """The spec and what it asks for, if schema, what that can't see, and administrator let it pass.

        Raises InvalidSpec.
        """
        # Not remembered: labels and annotations change without a new generation.
        if refused := refused_metadata(raw):
            raise InvalidSpec(refused)
        if why := raw.get(OUTSIZE):
            raise InvalidSpec((FieldError("metadata", f"{why}: {_LESS}"),))
        version = identity.uid, raw["metadata"]["generation"]
        found = self._understood.pop(version, None) or self._understand(raw, identity)
        self._understood[version] = found
        if len(self._understood) > REMEMBERED:
            self._understood.popitem(last=False)
        return found

    def _understand(self, raw: Raw, identity: Identity) -> tuple[ClaudeSandboxSpec, Blueprint]:
        spec = parse_spec(raw)
        if spec.on_docker and not self._docker:
            raise InvalidSpec((_NO_DOCKER,))
        cidrs = spec.egress_cidrs
        # What only the operator knows, or has to judge with code. The API server has judged the rest by the CRD
        # already, but a CRD can be older than the operator.
        if closed := tuple(out_of_reach(cidrs, self._site.opened)):
            raise InvalidSpec(tuple(_closed(index, private) for index, private in closed))
        if lacking := tuple(_lacking(spec, self._site)):
            raise InvalidSpec(lacking)
        if shown := tuple(refused_credentials(spec)):
            raise InvalidSpec(tuple(FieldError(where, why) for where, why in shown))
        if refused := tuple(refused_domains(spec.network.egress.allowed_domains)):
            where = "spec.network.egress.allowedDomains"
            raise InvalidSpec(tuple(FieldError(f"{where}[{index}]", why) for index, why in refused))
        if refused := tuple(refused_services(spec.services)):
            raise InvalidSpec(tuple(FieldError(f"spec.services[{index}].host", why) for index, why in refused))
        if refused := tuple(refused_repositories(spec.repositories)):
            raise InvalidSpec(tuple(FieldError(f"spec.repositories[{index}].url", why) for index, why in refused))
        if pushes := tuple(refused_pushes(spec.repositories)):
            raise InvalidSpec(tuple(FieldError(f"spec.repositories{where}", why) for where, why in pushes))
        if refused := tuple(refused_exceptions(spec.compliance, _CONTROLS)):
            where = "spec.compliance.exceptions"
            raise InvalidSpec(tuple(FieldError(f"{where}[{index}].control", why) for index, why in refused))
        return spec, build(identity, spec, self._site)


def _lacking(spec: ClaudeSandboxSpec, site: Site) -> Iterator[FieldError]:
    """What the administrator would have to lend. On Docker a host's administrator is asked, with the host."""
    security, release = spec.security, spec.claude_code.version
    if release is not None and release not in site.releases:
        otherwise = "remove it for the operator's own"
        yield _not_lent("claudeCode.version", release, "--claude-code", site.releases, otherwise)
    profile = security.app_armor_profile.localhost_profile if security.app_armor_profile is not None else None
    if profile is not None and profile not in site.app_armor_profiles:
        field, otherwise = "security.appArmorProfile.localhostProfile", "write type RuntimeDefault without it"
        yield _not_lent(field, profile, "--apparmor-profile", site.app_armor_profiles, otherwise)
    if spec.on_docker:
        return
    name = security.runtime_class_name
    if name is not None and name not in site.runtime_classes:
        yield _not_lent("security.runtimeClassName", name, "--runtime-class", site.runtime_classes, "remove it")
    if security.strict_seccomp and site.strict_profile is None:
        yield _NO_FILTER


_LESS = "make it smaller, or delete sandboxes of the namespace that are not needed"
_NO_DOCKER = FieldError(
    "spec.backend.type",
    "is Docker, and this operator runs sandboxes on Kubernetes only: write Kubernetes, or have an administrator start"
    " it with --docker",
)
_NO_FILTER = FieldError(
    "spec.security.seccompProfile.type",
    "is Strict, and on backend type Kubernetes that is a file on the nodes, of which the operator's administrator has"
    " not said where it is (--strict-seccomp-profile): use RuntimeDefault, or set spec.backend.type to Docker",
)


def _closed(index: int, private: Network) -> FieldError:
    return FieldError(
        f"spec.network.egress.allowedCIDRs[{index}]",
        f"lies in the private network {private}, which the operator's administrator has not opened "
        "(--open-private-network)",
    )


def _not_lent(field: str, name: str, option: str, offered: Iterable[str], otherwise: str) -> FieldError:
    """What a sandbox may name only where the operator was started with it. `otherwise`: what to do without."""
    some = ", ".join(sorted(offered))
    return FieldError(
        f"spec.{field}",
        f"is {name}, which the operator's administrator has not allowed ({option}): "
        + (f"write one of {some}, or {otherwise}" if some else otherwise),
    )
