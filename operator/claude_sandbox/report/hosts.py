"""From a DockerHost, as the API server or a file has it, to what a report says of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from claude_sandbox.api import meta
from claude_sandbox.api.clip import plain
from claude_sandbox.api.spec import BackendType
from claude_sandbox.report import given, results
from claude_sandbox.report.entries import asked_of_host
from claude_sandbox.report.model import Host, Sandbox

_ENGINE = {
    "version": "Engine",
    "apiVersion": "API",
    "operatingSystem": "Operating system",
    "kernelVersion": "Kernel",
    "architecture": "Architecture",
    "storageDriver": "Storage driver",
}
_PROTECTION = {
    "appArmor": "AppArmor",
    "selinux": "SELinux",
    "rootless": "rootless",
    "userNamespaces": "user namespaces",
}


def host(document: Mapping[str, Any], sandboxes: Sequence[Sandbox], silence: str) -> Host:
    """What its status says, by the same rules as a sandbox's. Raises NotASandboxError."""
    metadata, spec, status = (given.fields(document, part) for part in ("metadata", "spec", "status"))
    name = given.name(metadata, "name", meta.HOST_KIND)
    compliance = given.fields(status, "compliance")
    conditions = tuple(results.condition(one) for one in given.objects(status, "conditions"))
    asked = asked_of_host()
    found, _ = results.found_in(compliance, asked, ())
    known = {identifier: one for identifier, one in found.items() if identifier in asked}
    doubt = results.doubt_of(metadata, status, conditions) if compliance else results.unmeasured(conditions)
    doubt = doubt or plain(silence)
    return Host(
        name=name,
        uid=given.text(metadata.get("uid")),
        generation=given.number(metadata.get("generation")),
        endpoint=given.text(spec.get("endpoint")),
        measured_at=given.time(compliance.get("evaluatedAt")),
        outcomes=results.outcomes(known, asked, doubt, measured=bool(compliance)),
        conditions=conditions,
        facts=_facts(given.fields(status, "engine")),
        placed=max(0, given.number(status.get("sandboxes"))),
        sandboxes=tuple(one.full_name for one in sandboxes if one.backend is BackendType.DOCKER and one.place == name),
        doubt=doubt,
    )


def _facts(engine: Mapping[str, Any]) -> Mapping[str, str]:
    told = {word: given.text(engine.get(field)) for field, word in _ENGINE.items()}
    cgroups = [given.text(engine.get(field)) for field in ("cgroupVersion", "cgroupDriver")]
    told["Cgroups"] = ", ".join(filter(None, cgroups))
    options = given.fields(engine, "securityOptions")
    if options:
        seccomp = given.text(options.get("seccomp"))
        protection = [f"seccomp ({seccomp})" if seccomp else "no seccomp"]
        protection += [word for field, word in _PROTECTION.items() if options.get(field) is True]
        told["Protection"] = ", ".join(protection)
    return {word: text for word, text in told.items() if text}
