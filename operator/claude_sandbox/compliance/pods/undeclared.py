"""A pod that no ClaudeSandbox declares: what it is measured against, and the judges that differ for it.

What it is and may do is judged as for a sandbox. What only a declaration could justify is Unknown where nobody makes
one. Its own spec, the Services and the NetworkPolicies of its namespace are taken for meant, and judged by whether
they are narrow. Which control is judged so is said in its entry (`control.Undeclared`).
"""

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, field

from claude_sandbox.api.networks import WIDEST
from claude_sandbox.api.spec import Profile
from claude_sandbox.compliance.evidence.pods import Expected
from claude_sandbox.compliance.evidence.readings import Object
from claude_sandbox.compliance.pods.address_ranges import IPV4, Range, merged
from claude_sandbox.compliance.pods.coverage import IN_ALL, is_anyone, never_reached, too_wide, with_ipv4_in_it
from claude_sandbox.compliance.pods.declared_policies import widened
from claude_sandbox.compliance.pods.policies import Granted, IPBlock
from claude_sandbox.compliance.pods.view import View, among_plugins
from claude_sandbox.compliance.pods.volumes import (
    READ_ONLY_SOURCES,
    TIGHTEST_MODE,
    known_to_be_all,
    loosest_mode,
    secrets_of,
)
from claude_sandbox.compliance.verdict import Verdict, failed, judged, not_applicable, passed, unknown

_WHOLE = (16, 48)
"""Prefixes (IPv4, IPv6) of what is a whole private network: 192.168.0.0/16, and a site of RFC 4193."""


@dataclass(frozen=True)
class Declarations:
    """What whoever asks declares that the pod is meant to have."""

    workspaces: frozenset[str] = field(default_factory=frozenset)
    """The paths in the containers that may be written to and keep their files."""
    secrets: frozenset[str] = field(default_factory=frozenset)
    """Names of Secrets that may be mounted."""
    opened: tuple[str, ...] = ()
    """The private networks that it may connect to."""


def expected(
    pod: Object,
    services: Iterable[str],
    profile: Profile,
    allowed_registries: tuple[str, ...] = (),
    plain_images: frozenset[str] = frozenset(),
) -> Expected:
    """What there is to measure it against: itself. `services` are the names of all Services of its namespace."""
    spec = pod.get("spec") or {}
    containers = spec.get("containers") or ()
    return Expected(
        service_account=str(spec.get("serviceAccountName") or "default"),
        api_key_secret="",
        container=str(containers[0].get("name", "")) if containers else "",
        ports=(),
        egress_cidrs=(),
        dns=False,
        image_digest=None,
        allowed_registries=allowed_registries,
        workspace_path="",
        workspace_read_only=False,
        workspace_claim=None,
        policy_names=frozenset(),
        service_names=frozenset(services),
        profile=profile,
        plain_images=plain_images,
    )


def debug_containers(view: View, _declared: Declarations) -> Verdict:
    """What a container is for, its pod does not tell; but one that was added to a running pod is nobody's design."""
    added = [container.name for container in view.containers if container.kind == "ephemeralContainers"]
    names = ", ".join(container.name for container in view.containers)
    return judged((f"the debug container {name} was added to it" for name in added), names)


def writable_beyond(view: View, declared: Declarations) -> Verdict:
    """Only what is declared may be written to, beside what is gone with the pod."""
    volumes = {volume.get("name"): volume for volume in view.volumes}
    places = []
    for container in view.containers:
        for mount in container.spec.get("volumeMounts") or ():
            volume = volumes.get(mount.get("name"), {})
            path = posixpath.normpath("/" + str(mount.get("mountPath", "")).lstrip("/"))
            read_only = mount.get("readOnly") is True or any(volume.get(one) is not None for one in READ_ONLY_SOURCES)
            if not read_only and volume.get("emptyDir") is None and path not in declared.workspaces:
                places.append(f"container {container.name} can write to {path}")
    if places and not declared.workspaces:
        return unknown(f"{'; '.join(places)}: nothing declares that it may (--workspace)")
    return judged(places) if places else known_to_be_all(view)


@among_plugins("egress")
def wide_egress(view: View, declared: Declarations) -> Verdict:
    """What its policies let it connect to is bounded, and private only where that is declared."""
    granted = view.network.egress
    if view.network.unjudged:
        return failed(view.network.unjudged)
    if granted is None:
        return failed("no NetworkPolicy restricts egress: everything can be connected to")
    inside = tuple(never_reached(granted, declared.opened))
    problems = widened(inside, "egress into private, link-local or other addresses of special use,")
    return judged([*_boundless(granted, "egress to"), *problems], f"{len(granted)} allowed")


@among_plugins("ingress")
def wide_ingress(view: View, _declared: Declarations) -> Verdict:
    """Who its policies let connect to it is bounded."""
    granted = view.network.ingress
    if view.network.unjudged:
        return failed(view.network.unjudged)
    if granted is None:
        return failed("no NetworkPolicy restricts ingress: everyone can connect")
    # Whoever has a narrow address of the cluster may be meant; a whole private network is everybody in it.
    private = tuple(never_reached(granted))
    wide = tuple(one for one in private if _is_network(_addresses(one)))
    # Neither are its parts, side by side or strewn, narrow.
    if not wide and _is_network((part for one in private for part in _addresses(one)), IN_ALL):
        wide = private
    problems = widened(wide, "ingress from the whole of a private network,")
    return judged([*_boundless(granted, "ingress from"), *problems], f"{len(granted)} allowed")


def _boundless(granted: tuple[Granted, ...], what: str) -> list[str]:
    found = widened(tuple(one for one in granted if is_anyone(one.allow.peer)), what)
    return [*found, wide] if (wide := too_wide(granted, WIDEST)) else found


def _is_network(ranges: Iterable[Range], times: int = 1) -> bool:
    """Whether they hold a whole private network, or strewn over several so much as some of them."""
    parts = merged(part for one in ranges for part in with_ipv4_in_it(one))
    for is_ipv4, bits, prefix in ((True, 32, _WHOLE[0]), (False, 128, _WHOLE[1])):
        sizes = [last - first + 1 for first, last in parts if (first >= IPV4) is is_ipv4]
        smallest = 1 << (bits - prefix)
        if max(sizes, default=0) >= smallest or sum(sizes) >= times * smallest:
            return True
    return False


def _addresses(granted: Granted) -> tuple[Range, ...]:
    return granted.allow.peer.addresses if isinstance(granted.allow.peer, IPBlock) else ()


def undeclared_secrets(view: View, declared: Declarations) -> Verdict:
    """Which Secrets a pod is meant to have, it does not tell: mounting them is how it would have others too."""
    problems, doubts, seen = [], [], []
    for volume in view.volumes:
        name = volume.get("name")
        for secret in secrets_of(volume):
            seen.append(secret)
            if secret not in declared.secrets:
                what = secret or "of a storage driver"
                doubts.append(f"nothing declares that volume {name} is to hold the Secret {what} (--secret)")
            elif mode := loosest_mode(volume):
                problems.append(f"files of volume {name} have the mode {mode:04o} instead of {TIGHTEST_MODE:04o}")
    if problems:
        return judged(problems)
    return unknown("; ".join(doubts)) if doubts else passed(", ".join(seen))


def nothing_to_differ_from(_view: View, _declared: Declarations) -> Verdict:
    """There is no ClaudeSandbox that it could differ from."""
    return not_applicable("no ClaudeSandbox declares the pod")


def nobodys_gateway(_view: View, _declared: Declarations) -> Verdict:
    """Whether it is to have one, it does not tell."""
    return not_applicable("no ClaudeSandbox declares by what it is to get out; NET-02 tells where it may connect to")


def nobodys_resolver(_view: View, _declared: Declarations) -> Verdict:
    """Most pods ask the cluster's, and are meant to."""
    return not_applicable("no ClaudeSandbox declares whether it is to ask a resolver")


def nobodys_identity(_view: View, _declared: Declarations) -> Verdict:
    """Only a gateway takes what this is about."""
    return not_applicable("no ClaudeSandbox declares for whom it is to have an identity; ID-01 tells of any")


def nobodys_provider(_view: View, _declared: Declarations) -> Verdict:
    """What it holds and whose that is, it does not tell."""
    return not_applicable("no ClaudeSandbox declares who holds its key; SEC-01 and SEC-02 tell what it has itself")
