"""Services started, started anew where what they are made of changed, and asked whether they are well."""

import time
from collections.abc import Callable, Iterable

from claude_sandbox.install.kubectl import Kubectl
from claude_sandbox.localcluster import ports
from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.health import Probe, answers_ok
from claude_sandbox.localcluster.pki.pki import Files
from claude_sandbox.machine import keys, systemd, units
from claude_sandbox.machine.places import APISERVER, DAILY, ETCD, OPERATOR, SERVICES, Places, unit
from claude_sandbox.machine.services import services
from claude_sandbox.machine.settings import Settings

Say = Callable[[str], None]

_HOST = "127.0.0.1"
# Seconds, for a slow machine that does other things, too.
_PATIENCE = 120.0


def write_units(places: Places, settings: Settings) -> None:
    """Write the units as they are to be, where they are others."""
    places.units.mkdir(parents=True, exist_ok=True)
    for name, text in units.texts(services(settings, places), settings, places).items():
        path = places.units / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            path.chmod(0o644)


def settle(places: Places, settings: Settings) -> None:
    """Keys, kubeconfigs and units as they are to be, and known to systemd."""
    keys.ensure(places, settings)
    write_units(places, settings)
    # Also where no unit is another now: who wrote it before may have been interrupted here.
    systemd.call("daemon-reload")


def require_ports(settings: Settings) -> None:
    """Raise LocalClusterError where a port that a service is to have is somebody else's. None of them runs."""
    for port in settings.ports.all:
        ports.require_free(port)


def start(names: Iterable[str], places: Places, settings: Settings, say: Say) -> None:
    """Have the services run as their units say now, and return when they are well; those that do are left alone."""
    for name in names:
        now = systemd.state(unit(name))
        if now.enabled != "enabled":
            systemd.call("enable", "--quiet", unit(name))
        if now.pid is None:
            say(f"Starting {unit(name)}.")
            systemd.call("start", unit(name))
        elif _is_outdated(name, now.pid, places):
            say(f"Starting {unit(name)} anew, as what it is made of has changed.")
            systemd.call("restart", unit(name))
        # The next is of no use without it.
        await_well(name, places, settings)


def restart_outdated(places: Places, settings: Settings, say: Say) -> None:
    """Start services anew that run and are not what their units say now; what was stopped stays so."""
    for name in SERVICES:
        pid = systemd.state(unit(name)).pid
        if pid is not None and _is_outdated(name, pid, places):
            say(f"Starting {unit(name)} anew, as what it is made of has changed.")
            systemd.call("restart", unit(name))
            await_well(name, places, settings)


def stop(names: Iterable[str], say: Say) -> None:
    """End the services; those that don't run, or don't exist, are no matter."""
    for name in names:
        # Also one that has failed and waits to be tried again, which is `activating`.
        if systemd.state(unit(name)).active not in ("inactive", "failed"):
            say(f"Stopping {unit(name)}.")
            systemd.call("stop", unit(name))


def start_daily() -> None:
    """The timer of backups and certificates, now and after each start of the machine."""
    systemd.call("enable", "--quiet", "--now", f"{DAILY}.timer")


def probes(places: Places, settings: Settings) -> dict[str, Callable[[], bool]]:
    """How each service is asked whether it is well; not all can be asked."""
    ca, admin = Files(places.pki, "ca").certificate, Files(places.pki, keys.ADMIN)
    etcd_ca, client = Files(places.pki, "etcd-ca").certificate, Files(places.pki, "apiserver-etcd-client")
    return {
        ETCD: Probe(_HOST, settings.ports.etcd, "/health", etcd_ca, client),
        APISERVER: Probe(_HOST, settings.ports.apiserver, "/readyz", ca, admin),
        OPERATOR: lambda: answers_ok(_HOST, settings.ports.operator, "/readyz"),
    }


def await_well(name: str, places: Places, settings: Settings) -> None:
    """Wait until the service answers that it is well. Raises LocalClusterError where that takes too long."""
    probe = probes(places, settings).get(name)
    deadline = time.monotonic() + _PATIENCE
    while probe is not None and not probe():
        if time.monotonic() > deadline:
            raise LocalClusterError(
                f"{unit(name)} was not well within {_PATIENCE:.0f} s.", f"See `journalctl --unit={unit(name)} -n 50`."
            )
        time.sleep(0.2)


def kubectl(places: Places, settings: Settings) -> Kubectl:
    """As the administrator."""
    return Kubectl(places.programs / settings.programs["kubectl"], str(places.kubeconfig(keys.ADMIN)))


def _is_outdated(name: str, pid: int, places: Places) -> bool:
    return systemd.started_from(pid) != units.started_from((places.units / unit(name)).read_text())
