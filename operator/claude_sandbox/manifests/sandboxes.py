"""A ClaudeSandbox, judged before it is created: whether it is valid, and what the operator would make of it."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from claude_sandbox.api.spec import ClaudeSandboxSpec, Level, Profile
from claude_sandbox.api.validate import FieldError, InvalidSpec, parse_spec, refused_metadata
from claude_sandbox.backends.kubernetes.evidence.declared import expected
from claude_sandbox.backends.kubernetes.objects import Endpoint
from claude_sandbox.backends.kubernetes.plan import desire
from claude_sandbox.blueprint.build import build
from claude_sandbox.blueprint.model import Identity, Image, Site
from claude_sandbox.compliance.catalogue import CONTAINER_CONTROLS, CONTROLS, POD_CONTROLS
from claude_sandbox.compliance.control import Control
from claude_sandbox.compliance.evidence.exemptions import exemptions_of
from claude_sandbox.compliance.policy import refused_exceptions
from claude_sandbox.compliance.reports.findings import Finding
from claude_sandbox.compliance.verdict import unknown
from claude_sandbox.controller.images.policies import Policy
from claude_sandbox.manifests.documents import Problem
from claude_sandbox.manifests.image_policies import with_policies
from claude_sandbox.manifests.judged import Judged, Standard
from claude_sandbox.manifests.kubernetes import Found, Objects, has_texts
from claude_sandbox.manifests.pods import evidence_of, outcome

_NOWHERE = Image("operators-image.invalid/claude-sandbox", None, "IfNotPresent")
"""In place of the operator's image, where nobody says which that is."""
_GATEWAY = Endpoint("192.0.2.1", "")
"""In place of its gateway, which the operator would make first: an address of nobody's (RFC 5737)."""
_OF_IMAGES = ("IMG-01", "IMG-02", "IMG-03", "FS-08")


def judge_sandbox(
    found: Found, objects: Objects, standard: Standard, policies: tuple[Policy, ...] = ()
) -> Judged | tuple[Problem, ...]:
    """The outcome of each control; where it is not valid, why. `policies`: which images may run."""
    metadata = found.value.get("metadata")
    if not isinstance(metadata, Mapping) or not isinstance(metadata.get("name"), str) or not has_texts(metadata):
        why = "it has no metadata.name, or labels or annotations that are no texts"
        return (Problem(found.document.file, found.document.line, f"{found.kind}: {why}"),)
    try:
        spec = parse_spec(found.value)
        errors = refused_metadata(found.value) + _exceptions_of_nothing(spec)
    except InvalidSpec as error:
        errors = error.errors
    if errors:
        where = found.document
        return tuple(Problem(where.file, where.line, f"{found.kind} {found.name}: {one}") for one in errors)
    profile, level = standard.profile or spec.profile, standard.level or spec.compliance.level
    image = standard.image or _NOWHERE
    identity = Identity(found.namespace, found.name, "00000000-0000-0000-0000-000000000000")
    blueprint = build(identity, spec, Site(image, standard.opened))
    if spec.on_docker:
        on_docker = with_policies(_on_docker(profile, level), policies, (found, spec), objects, standard.image)
        return _told(found, on_docker, "")
    gateway = _GATEWAY if blueprint.gateway is not None else None
    desired = desire(blueprint, None, True, spec.update_strategy.type, gateway)
    made = [one for one in (desired.baseline, desired.account, desired.policy, desired.service) if one is not None]
    own = image.reference if blueprint.tools is None else blueprint.tools.image.reference
    plain = standard.plain_images if spec.image and blueprint.tools is None else standard.plain_images | {own}
    declared = expected(
        blueprint, profile, standard.declared.allowed_registries, plain, level, exemptions_of(spec.compliance)
    )
    declared = replace(
        declared, claude_code=declared.claude_code and replace(declared.claude_code, certain=bool(standard.image))
    )
    findings = outcome(evidence_of(desired.pod, declared, objects, standard, made), POD_CONTROLS, standard)
    if standard.image is None:
        findings = tuple(map(_without_image, findings))
    findings = with_policies(findings, policies, (found, spec), objects, standard.image)
    note = "what ConfigMaps would tell Claude Code was not read" if tuple(spec.claude_code.config_maps) else ""
    return _told(found, findings, note)


def refused_by_profile(found: Found, profile: Profile | None) -> Iterator[Problem]:
    """What another profile than its own would refuse of a ClaudeSandbox that is valid by its own."""
    spec = found.value["spec"]
    if profile is None or (spec.get("profile") or Profile.DEVELOPMENT) == profile:
        return
    try:
        parse_spec({**found.value, "spec": {**spec, "profile": profile.value}})
    except InvalidSpec as error:
        where = found.document
        for one in error.errors:
            why = f"{found.kind} {found.name}: profile {profile.value} would refuse it: {one}"
            yield Problem(where.file, where.line, why)


def _exceptions_of_nothing(spec: ClaudeSandboxSpec) -> tuple[FieldError, ...]:
    known = tuple(control.id for control in CONTROLS)
    refused = refused_exceptions(spec.compliance, known)
    return tuple(FieldError(f"spec.compliance.exceptions[{index}].control", why) for index, why in refused)


def _on_docker(profile: Profile, level: Level) -> Iterator[Finding]:
    """What its engine can do decides what its container is made of: nothing is known before."""
    verdict = unknown("its Docker host decides on it; once it runs, `claude-sandbox check container` tells")
    for control in CONTAINER_CONTROLS:
        if control.container is not None:
            yield Finding(control, verdict, profile in control.required_by(control.container, level), "")


def _told(found: Found, findings: tuple[Finding, ...], note: str) -> Judged:
    return Judged(found.target, found.document.file, found.document.line, findings, note)


def _without_image(finding: Finding) -> Finding:
    """What depends on the image that the operator gives, which nobody named."""
    control: Control = finding.control
    if control.id not in _OF_IMAGES:
        return finding
    verdict = unknown("which image the operator gives sandboxes is not known (--sandbox-image)")
    return replace(finding, verdict=verdict, remedy="")
