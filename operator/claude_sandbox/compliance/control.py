"""What a control is: what is demanded, and how it is judged of a pod, of a container and of a Docker host."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from claude_sandbox.api.fields.compliance import Level as Level  # noqa: PLC0414 - the families' modules take it here
from claude_sandbox.api.spec import Profile
from claude_sandbox.api.status import EvidenceSource, Severity
from claude_sandbox.compliance.containers.container import Container
from claude_sandbox.compliance.containers.witness import Judge as KernelJudge
from claude_sandbox.compliance.docker_hosts.host import Host
from claude_sandbox.compliance.pods.undeclared import Declarations
from claude_sandbox.compliance.pods.view import View
from claude_sandbox.compliance.pods.witness import PodKernelJudge
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
    PROBE = "probe"
    KERNEL_PROBE = "kernel_probe"


PROBES = frozenset({Evidence.PROBE, Evidence.KERNEL_PROBE})
"""What only the operator has, and only some time after a sandbox began: a control that needs one is required as soon as
a probe has told something, and while that is fresh."""


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
    kernel: PodKernelJudge | None = None
    """The second witness, where an agent is on the pod's node: either's failure counts."""
    kernel_decides: bool = False
    """Whether the kernel settles the object's doubts."""

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
    probed: EvidenceSource | None = None
    """As which evidence what a probe found decides, and not the document; None where the document does."""


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
    kernel: PodKernelJudge | None = None
    """What measures it nevertheless, where an agent is on the pod's node."""


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
    """The profiles in which it has to pass, where it is measured. A host has no profile: any means always.

    Of one of the level Hardened: only in a sandbox of that level, and there in every profile.
    """
    mappings: tuple[Mapping, ...] = ()
    meaning: str = ""
    """What is so where it passes, for who does not know the words of Kubernetes or Docker."""
    why: str = ""
    """What can happen where it does not."""

    def required_by(
        self, check: PodCheck | ContainerCheck | HostCheck | Unmeasured, level: Level = Level.SANDBOX
    ) -> frozenset[Profile]:
        """The profiles in which `check`, one of its own, has to pass at this level."""
        if isinstance(check, Unmeasured) or not level.asks_for(self.level):
            return OPTIONAL
        return ALWAYS if self.level is Level.HARDENED else self.required


def maps(
    *,
    pss: tuple[str, ...] = (),
    cis_docker: tuple[str, ...] = (),
    kubescape: tuple[str, ...] = (),
    trivy: tuple[str, ...] = (),
    cis_kubernetes: tuple[str, ...] = (),
    nsa: tuple[str, ...] = (),
    nist: tuple[str, ...] = (),
) -> tuple[Mapping, ...]:
    """The mappings of a control, by the identifiers that each catalogue gives; of NSA's guidance, which numbers
    nothing, the headings of its sections."""
    catalogues = (
        ("Pod Security Standards", "1.37", pss),
        # docker-bench-security's numbering, which differs from other editions that call themselves 1.6.0.
        ("CIS Docker Benchmark (docker-bench-security)", "1.6.0", cis_docker),
        ("CIS Kubernetes Benchmark", "1.12", cis_kubernetes),
        ("NSA and CISA Kubernetes Hardening Guidance", "1.2", nsa),
        ("NIST SP 800-190", "2017", nist),
        ("Kubescape", "", kubescape),
        ("Trivy", "", trivy),
    )
    return tuple(Mapping(framework, version, one) for framework, version, ids in catalogues for one in ids)
