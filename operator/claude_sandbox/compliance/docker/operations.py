"""OPS on Docker: whether the container is looked after."""

from claude_sandbox.compliance.containers.container import Container, untold
from claude_sandbox.compliance.control import Verdict, failed, judged, not_applicable, passed, unknown
from claude_sandbox.compliance.docker.measure import shared
from claude_sandbox.compliance.operations import differing


def health_checked(container: Container) -> Verdict:
    """The engine notices when the agent can't work any more. It leaves the field out where there is no check."""
    check = container.mapping("Config.Healthcheck", omissible=True)
    if check is None:
        return unknown(untold("Config.Healthcheck"))
    if not check:
        return failed("it has no health check")
    test = container.strings("Config.Healthcheck.Test")
    if test is None:
        return unknown(untold("Config.Healthcheck.Test"))
    if not test or test[0] == "NONE":
        return failed("its health check is turned off")
    return passed(container.text("State.Health.Status") or "")


def in_sync(container: Container) -> Verdict:
    """What lives is what it was made from, and that is what is asked for now. The two are told apart."""
    if container.drift is None:
        return not_applicable("nothing declares what the container is to be")
    if isinstance(container.drift, str):
        return unknown(f"what it differs in from what is declared could not be told: {container.drift}")
    return judged(differing(container.drift, outdated=container.outdated))


def fresh(_container: Container) -> Verdict:
    """Everything that is said of it was read lately. Stale or missing evidence never gets here."""
    return passed()


MEASURES = (
    shared(
        "OPS-01",
        health_checked,
        "Run it with --health-cmd, for example --health-cmd 'claude --version'.",
    ),
    shared("OPS-03", in_sync, "Undo the change, or remove the container: it comes back as declared."),
    shared("OPS-04", fresh, "Look at the operator's health and logs, and at the DockerHost: it could not be read."),
)
