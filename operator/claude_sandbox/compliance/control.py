"""What a control is: what is demanded, and how it is judged of a pod, of a container and of a Docker host."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from claude_sandbox.api.spec import Profile
from claude_sandbox.api.status import EvidenceSource, Severity
from claude_sandbox.compliance.containers.container import Container
from claude_sandbox.compliance.containers.witness import Judge as KernelJudge
from claude_sandbox.compliance.docker_hosts.host import Host
from claude_sandbox.compliance.pods.undeclared import Declarations
from claude_sandbox.compliance.pods.view import View
from claude_sandbox.compliance.verdict import Verdict

PodJudge = Callable[[View], Verdict]
UndeclaredJudge = Callable[[View, Declarations], Verdict]
ContainerJudge = Callable[[Container], Verdict]
HostJudge = Callable[[Host], Verdict]


ALWAYS = frozenset(Profile)
"""Required in every profile."""
PRODUCTION = frozenset({Profile.PRODUCTION})
"""Required in Production; measured and reported in Development."""
OPTIONAL: frozenset[Profile] = frozenset()
"""Measured and reported, never required."""


class Level(StrEnum):
    """What asks for a control."""

    BASELINE = "Baseline"
    """The baseline Pod Security Standard."""
    RESTRICTED = "Restricted"
    """The restricted Pod Security Standard."""
    SANDBOX = "Sandbox"
    """What a place for an agent needs beyond that: the default of this operator."""
    HARDENED = "Hardened"
    """Hardening that has to be opted in to."""


class Evidence(StrEnum):
    """What a control needs to have been read: the names of the readings in KubernetesEvidence."""

    POD = "pod"
    NAMESPACE = "namespace"
    POLICIES = "policies"
    SERVICES = "services"
    SLICES = "slices"
    SERVICE_ACCOUNT = "service_account"
    ACCESS = "access"
    GRANTS = "grants"
    RUNTIME_CLASS = "runtime_class"
    QUOTAS = "quotas"
    GATEWAY = "gateway"
    DRIFT = "drift"


@dataclass(frozen=True)
class Mapping:
    """The same demand in another catalogue: `version` is the edition in which it has this `id`."""

    framework: str
    version: str
    id: str


@dataclass(frozen=True)
class Undeclared:
    """What is different where the pod is one that no ClaudeSandbox declares; what is left out is as for a sandbox."""

    judge: UndeclaredJudge | None = None
    remedy: str = ""
    needs: tuple[Evidence, ...] | None = None


AS_FOR_A_SANDBOX = Undeclared()
"""The pod's own spec and namespace, taken for what is declared, are compared with as a ClaudeSandbox would be."""


@dataclass(frozen=True)
class PodCheck:
    """How a control is judged of a pod. `judge` is only asked when everything in `needs` was read and is fresh."""

    judge: PodJudge
    remedy: str
    needs: tuple[Evidence, ...] = (Evidence.POD,)
    weighs: tuple[Evidence, ...] = ()
    """What it looks at beside that; what it means that it could not be read is the judge's to say."""
    unseen: str = ""
    """What of its subject no evidence of pods tells, and who could; as a sentence."""
    undeclared: Undeclared | None = None
    """Of a pod without a ClaudeSandbox. None only where nothing is compared with what is declared."""

    def without_sandbox(self, declared: Declarations) -> "PodCheck":
        """How it is judged of a pod that no ClaudeSandbox declares, with what whoever asks declares instead."""
        other = self.undeclared or AS_FOR_A_SANDBOX
        judge = other.judge
        return replace(
            self,
            judge=self.judge if judge is None else lambda view: judge(view, declared),
            remedy=other.remedy or self.remedy,
            needs=self.needs if other.needs is None else other.needs,
        )


@dataclass(frozen=True)
class ContainerCheck:
    """How a control is judged of a container on a Docker Engine, by its document and perhaps by the kernel."""

    judge: ContainerJudge
    remedy: str
    kernel: KernelJudge | None = None
    """The second witness, where the engine is on this machine: either's failure counts."""
    kernel_decides: bool = False
    """Whether the kernel settles the document's doubts.

    Which user a name stands for is written in the image, and whether users are remapped in the engine's configuration.
    """


@dataclass(frozen=True)
class HostCheck:
    """How a control is judged of a Docker host."""

    judge: HostJudge
    remedy: str


@dataclass(frozen=True)
class Unmeasured:
    """A control that can't be decided from what is read in this version: always Unknown, and never required."""

    how: str
    """What would decide it: completes "it would take …"."""
    by: EvidenceSource
    remedy: str = ""


@dataclass(frozen=True)
class Control:
    """One thing that is demanded, and how it is judged of whatever it can be demanded of.

    Where `pod`, `container` or `host` is None the control is not one of theirs.
    """

    id: str
    title: str
    severity: Severity
    level: Level
    pod: PodCheck | Unmeasured | None = None
    container: ContainerCheck | Unmeasured | None = None
    host: HostCheck | None = None
    required: frozenset[Profile] = ALWAYS
    """The profiles in which it has to pass, where it is measured. A host has no profile: any means always."""
    mappings: tuple[Mapping, ...] = ()

    def required_by(self, check: PodCheck | ContainerCheck | HostCheck | Unmeasured) -> frozenset[Profile]:
        """The profiles in which `check`, one of its own, has to pass."""
        return OPTIONAL if isinstance(check, Unmeasured) else self.required


def maps(
    *,
    pss: tuple[str, ...] = (),
    cis_docker: tuple[str, ...] = (),
    kubescape: tuple[str, ...] = (),
    trivy: tuple[str, ...] = (),
) -> tuple[Mapping, ...]:
    """The mappings of a control, by the identifiers that each catalogue gives."""
    catalogues = (
        ("Pod Security Standards", "1.37", pss),
        # docker-bench-security's numbering, which differs from other editions that call themselves 1.6.0.
        ("CIS Docker Benchmark (docker-bench-security)", "1.6.0", cis_docker),
        ("Kubescape", "", kubescape),
        ("Trivy", "", trivy),
    )
    return tuple(Mapping(framework, version, one) for framework, version, ids in catalogues for one in ids)
