"""A Compose file: its services, judged among its networks and volumes."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from claude_sandbox.api.status import Result
from claude_sandbox.compliance.evidence.containers import DockerEvidence
from claude_sandbox.compliance.evidence.readings import Object
from claude_sandbox.compliance.reports.containers import findings
from claude_sandbox.compliance.reports.findings import Finding
from claude_sandbox.compliance.verdict import not_applicable, unknown
from claude_sandbox.manifests.compose.mounts import volume_documents
from claude_sandbox.manifests.compose.remedies import REMEDIES
from claude_sandbox.manifests.compose.service import document, hooks, networks_of
from claude_sandbox.manifests.compose.values import interpolated, mapping, pairs, text
from claude_sandbox.manifests.documents import Document, Problem
from claude_sandbox.manifests.judged import Judged, Standard, unsourced

_RESOLVE = "give what `docker compose config` prints"


def is_project(value: Object) -> bool:
    """Whether it is what Compose reads, and no Kubernetes object."""
    return isinstance(value.get("services"), Mapping) and "apiVersion" not in value


def judge_project(read: Document, standard: Standard) -> tuple[list[Judged], list[Problem]]:
    """The outcome of each control of each service, and what could not be judged."""
    judged: list[Judged] = []
    problems: list[Problem] = []
    project = read.value
    if project.get("include"):
        problems.append(Problem(read.file, read.line, f"it includes other files: {_RESOLVE}"))
    networks, volumes = tuple(_networks(project)), volume_documents(project)
    for name, service in project["services"].items():
        line = read.lines.get(name, read.line)
        if why := _unlike(service):
            problems.append(Problem(read.file, line, f"service {name} {why}"))
        elif "provider" not in service:
            evidence = DockerEvidence(
                declared=standard.declared,
                container=standard.read(document(str(name), service, project, read.directory)),
                now=standard.now,
                networks=networks,
                volumes=volumes,
                visits=hooks(interpolated(service)),
            )
            found = [_bounded(one, service, standard) for one in findings(evidence)]
            target = {"kind": "ComposeService", "name": str(name)}
            judged.append(Judged(target, read.file, line, unsourced(found), at=(*read.at, "services", name)))
    return judged, problems


def _unlike(service: object) -> str:
    if not isinstance(service, Mapping):
        return "has no fields"
    return f"extends another: {_RESOLVE}" if "extends" in service else ""


def _bounded(finding: Finding, service: Object, standard: Standard) -> Finding:
    """The same, as far as it can be told without the image and before anything runs."""
    control, result, image = finding.control.id, finding.result, text(service.get("image"))
    verdict = finding.verdict
    if control == "OPS-01" and result is Result.FAIL and service.get("healthcheck") is None:
        verdict = unknown("it names no health check; whether its image does is not told")
    if control == "FS-08" and result is Result.PASS and image not in standard.plain_images:
        verdict = unknown("an engine makes what its image declares as VOLUME writable (--image-without-volumes)")
    if control == "OPS-04":
        verdict = not_applicable("nothing of it runs yet")
    remedy = REMEDIES.get(control, finding.remedy) if verdict.result is Result.FAIL else ""
    return replace(finding, verdict=verdict, remedy=remedy)


def _networks(project: Object) -> Iterator[Object]:
    """As `docker network inspect` would tell of them; of those made elsewhere nothing is known."""
    declared = {"default": None, **mapping(project.get("networks"))}
    members: dict[str, dict[str, Object]] = {}
    for name, service in project["services"].items():
        for one in networks_of(service) if isinstance(service, Mapping) else ():
            members.setdefault(one, {})[str(name)] = {"Name": str(name)}
    for name, network in declared.items():
        options = interpolated(mapping(network))
        if options.get("external"):
            continue
        yield {
            "Name": name,
            "Id": name,
            "Driver": text(options.get("driver")) or "bridge",
            "Internal": options.get("internal", False),
            "EnableIPv6": options.get("enable_ipv6", False),
            "Options": {key: str(one) for key, one in pairs(options.get("driver_opts")) or ()},
            "Containers": members.get(str(name), {}),
        }
