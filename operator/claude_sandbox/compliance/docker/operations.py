"""OPS on Docker: whether the container is looked after."""

from claude_sandbox.compliance.control import Verdict, failed, passed, unknown
from claude_sandbox.compliance.docker.container import Container, untold
from claude_sandbox.compliance.docker.measure import shared


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


MEASURES = (
    shared(
        "OPS-01",
        health_checked,
        "Run it with --health-cmd, for example --health-cmd 'claude --version'.",
    ),
)
