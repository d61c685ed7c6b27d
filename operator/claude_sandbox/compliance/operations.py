"""OPS: whether the sandbox is looked after."""

from collections.abc import Iterable, Iterator

from claude_sandbox.api.status import Severity
from claude_sandbox.compliance.control import Control, Evidence, Level, Verdict, judged, maps, passed
from claude_sandbox.compliance.pods.view import View


def probed(view: View) -> Verdict:
    """The kubelet notices when the agent can't work any more."""
    return judged(
        f"container {container.name} has no {probe}"
        for container in view.containers
        if container.kind == "containers"
        for probe in ("readinessProbe", "livenessProbe")
        if not container.spec.get(probe)
    )


def in_sync(view: View) -> Verdict:
    """What lives is what it was made from, and that is what is asked for now. The two are told apart."""
    evidence = view.evidence
    return judged(differing(view.drift, outdated=evidence.outdated, imposed=evidence.imposed))


def differing(changed: Iterable[str], *, outdated: bool, imposed: Iterable[str] = ()) -> Iterator[str]:
    """What is amiss: it was changed since it was made, admission made another of it, or another is asked for now."""
    imposed = sorted(imposed)
    if imposed:
        yield f"the cluster's admission changes what is asked for: {', '.join(imposed)}"
    if paths := sorted(set(changed) - {one.partition(": ")[2] for one in imposed}):
        yield f"differs from what it was made from: {', '.join(paths)}"
    if outdated:
        yield "was made from an earlier spec than the one that is asked for now"


def fresh(_view: View) -> Verdict:
    """What decides whether the sandbox is isolated was read lately. Stale or missing evidence never gets here."""
    return passed()


CONTROLS = (
    Control(
        "OPS-01",
        "Health checked",
        Severity.LOW,
        Level.SANDBOX,
        "Give the container a livenessProbe and a readinessProbe.",
        probed,
        mappings=maps(cis_docker=("5.27",)),
    ),
    Control(
        "OPS-03",
        "Live objects equal the declared ones",
        Severity.HIGH,
        Level.SANDBOX,
        "Undo the change, or delete the pod: it comes back as declared.",
        in_sync,
        needs=(Evidence.DRIFT,),
    ),
    Control(
        "OPS-04",
        "Evidence fresh",
        Severity.MEDIUM,
        Level.SANDBOX,
        "Look at the operator's health and logs: it could not read what the controls need.",
        fresh,
        # Not what may be out of reach of an operator that is confined to some namespaces.
        needs=(
            Evidence.POD,
            Evidence.POLICIES,
            Evidence.SERVICES,
            Evidence.SERVICE_ACCOUNT,
            Evidence.ACCESS,
            Evidence.DRIFT,
        ),
    ),
)
