"""OPS: whether the sandbox is looked after."""

from claude_sandbox.api.status import Severity
from claude_sandbox.compliance.control import Control, Evidence, Level, Verdict, failed, judged, maps, passed
from claude_sandbox.compliance.view import View


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
    """What lives is what is wanted."""
    if view.drift:
        return failed(f"differs from what is wanted: {', '.join(sorted(view.drift))}")
    return passed()


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
