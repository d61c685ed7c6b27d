"""How the installation is, asked now."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from claude_sandbox.api import meta
from claude_sandbox.install.errors import SetupError
from claude_sandbox.localcluster.pki.pki import Files
from claude_sandbox.machine import backups, keys, lifecycle, settings, systemd
from claude_sandbox.machine.places import APISERVER, DAILY, SERVICES, Places, unit

# A day, the hour that the timer takes at random, and some more for a machine that was off.
_BACKUP_AGE = timedelta(hours=50)


@dataclass(frozen=True)
class ServiceStatus:
    """A service: `well` is what it answers itself, or, of one that answers nothing, whether it runs."""

    unit: str
    active: str
    enabled: bool
    restarts: int
    well: bool


@dataclass(frozen=True)
class Status:
    """The whole."""

    server: str
    kubeconfig: Path
    services: tuple[ServiceStatus, ...]
    host: str
    """What the DockerHost of this machine says of itself: its condition Ready, as a person reads it."""
    host_ready: bool
    certificates_until: datetime
    newest_backup: Path | None
    problems: tuple[str, ...]

    @property
    def well(self) -> bool:
        return not self.problems


def status(places: Places, host: str) -> Status:
    """How everything is now. `host` is the DockerHost's name. Raises LocalClusterError where nothing is installed."""
    systemd.require()
    found = settings.require(places)
    probes = lifecycle.probes(places, found)
    services = []
    for name in SERVICES:
        state = systemd.state(unit(name))
        probe = probes.get(name)
        well = state.active == "active" and (probe is None or probe())
        services.append(ServiceStatus(unit(name), state.active, state.enabled == "enabled", state.restarts, well))
    api = next(one.well for one in services if one.unit == unit(APISERVER))
    # It may take kubectl long to find out for itself that nobody answers.
    said, ready = _host(places, found, host) if api else ("unknown while the API server is away", False)
    until = min(_expiry(places, name) for name in keys.subjects())
    newest = next(iter(backups.present(places.backups)), None)
    problems = [f"{one.unit} is not well." for one in services if not one.well]
    problems += [f"{one.unit} is not started with the machine." for one in services if not one.enabled]
    if not ready:
        problems.append(f"DockerHost {host}: {said}")
    if until < datetime.now(UTC) + timedelta(days=7):
        problems.append(f"Certificates expire at {until:%Y-%m-%d}: claude-sandbox machine renew")
    problems += _daily(newest)
    return Status(found.server, places.kubeconfig(keys.ADMIN), tuple(services), said, ready, until, newest,
                  tuple(problems))  # fmt: skip


def _host(places: Places, found: settings.Settings, host: str) -> tuple[str, bool]:
    try:
        document = lifecycle.kubectl(places, found).get(meta.HOST_PLURAL, host)
    except SetupError as error:
        return error.message, False
    conditions = ((document or {}).get("status") or {}).get("conditions") or ()
    ready = next((one for one in conditions if one["type"] == "Ready"), None)
    if ready is None:
        return "not looked at yet" if document else "there is none", False
    return f"{ready['reason']}: {ready['message']}", ready["status"] == "True"


def _expiry(places: Places, name: str) -> datetime:
    certificate = Files(places.pki, name).certificate.read_bytes()
    return x509.load_pem_x509_certificate(certificate).not_valid_after_utc


def _daily(newest: Path | None) -> list[str]:
    problems = []
    if systemd.state(f"{DAILY}.timer").active != "active":
        problems.append(f"{DAILY}.timer does not run, so there are no backups.")
    if systemd.state(f"{DAILY}.service").active == "failed":
        problems.append(f"The last backup failed: journalctl --unit={DAILY}")
    if newest is not None and datetime.now(UTC) - datetime.fromtimestamp(newest.stat().st_mtime, UTC) > _BACKUP_AGE:
        problems.append(f"The newest backup is old: {newest}")
    return problems
