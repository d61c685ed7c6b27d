"""The text of systemd's units. Pure, but for the digest of what a service is given."""

import hashlib
import re
from collections.abc import Iterable, Mapping

from claude_sandbox.machine.places import DAILY, PREFIX, SERVICES, Places, unit
from claude_sandbox.machine.services import Service, operator_command, operator_environment
from claude_sandbox.machine.settings import Settings

# A running process tells by it what it was started from: systemd knows no such thing of credentials and programs.
MARK = "CLAUDE_SANDBOX_STARTED_FROM"

# What nothing of the installation needs. systemd.exec(5) has the meaning of each.
_COMMON = (
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "ProtectHostname=yes",
    "ProtectClock=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "SystemCallArchitectures=native",
    "UMask=0077",
)
# What no service needs, either.
_HARDENED = (
    *_COMMON,
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "ProtectControlGroups=yes",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources",
    "SystemCallErrorNumber=EPERM",
    "RemoveIPC=yes",
    "KeyringMode=private",
)
_AT_HOME = ("IPAddressDeny=any", "IPAddressAllow=localhost")
_BLIND = ("ProtectProc=invisible", "ProcSubset=pid", "PrivateUsers=yes")

# Maintenance is root's: it reads every key, and starts services anew.
_MAINTENANCE = (*_COMMON, *_AT_HOME)


def texts(services: Iterable[Service], settings: Settings, places: Places) -> dict[str, str]:
    """All units by their files' names."""
    found = {unit(one.name): service(one, places) for one in services}
    return {**found, f"{DAILY}.service": daily(settings, places), f"{DAILY}.timer": timer()}


def service(one: Service, places: Places) -> str:
    """The unit of a service."""
    after = [unit(name) if name in SERVICES else name for name in one.after]
    body = _body(one, places)
    # The content of credentials as well: a certificate that was made anew changes no line of the unit.
    digest = hashlib.sha256("\0".join(body).encode())
    for name, path in sorted(one.credentials.items()):
        content = path.read_bytes() if path.exists() else b""
        digest.update(b"\0" + name.encode() + b"\0" + content)
    return _text(
        {
            "Unit": (
                f"Description={one.description}",
                *([f"After={' '.join(after)}", f"Wants={' '.join(after)}"] if after else []),
                # However often it has failed, it is tried again.
                "StartLimitIntervalSec=0",
            ),
            "Service": (*body, f"Environment={MARK}={digest.hexdigest()[:16]}"),
            "Install": ("WantedBy=multi-user.target",),
        }
    )


def started_from(text: str) -> str:
    """The mark in a unit's text."""
    match = re.search(rf"^Environment={MARK}=(\w+)$", text, re.MULTILINE)
    return "" if match is None else match[1]


def daily(settings: Settings, places: Places) -> str:
    """Certificates made anew in time, and a backup."""
    command = command_line(operator_command(settings))
    return _text(
        {
            "Unit": (
                "Description=Certificates and a backup of claude-sandbox",
                f"After={unit('apiserver')}",
            ),
            "Service": (
                "Type=oneshot",
                *_environment(operator_environment(settings, places)),
                # A backup is made even where renewing failed, and the unit has failed then all the same.
                f"ExecStart={command} machine backup",
                f"ExecStart={command} machine renew",
                *_MAINTENANCE,
                f"ReadWritePaths={places.seen(places.config)} {places.seen(places.data)} {places.seen(places.units)}",
            ),
        }
    )


def timer() -> str:
    """Each night, or as soon as the machine is on again."""
    return _text(
        {
            "Unit": ("Description=Certificates and a backup of claude-sandbox, every day",),
            "Timer": ("OnCalendar=daily", "RandomizedDelaySec=1h", "Persistent=yes"),
            "Install": ("WantedBy=timers.target",),
        }
    )


def command_line(argv: Iterable[str]) -> str:
    """The arguments as a unit names them (systemd.service(5), command lines)."""
    return " ".join(_quoted(argument) for argument in argv)


def _body(one: Service, places: Places) -> list[str]:
    hardened = [*_HARDENED, *(_AT_HOME if one.stays else ()), *(() if one.watches else _BLIND)]
    return [
        f"Type={'notify' if one.notifies else 'exec'}",
        # An account that exists while the service runs, and owns nothing but its own directory.
        "DynamicUser=yes",
        f"User={PREFIX}-{one.name}",
        *(f"SupplementaryGroups={group}" for group in one.groups),
        *([f"StateDirectory={one.state}", "StateDirectoryMode=0700"] if one.state else []),
        *(f"LoadCredential={name}:{places.seen(path)}" for name, path in sorted(one.credentials.items())),
        *_environment(one.environment),
        f"ExecStart={command_line(one.argv)}",
        "Restart=always",
        "RestartSec=2",
        "TimeoutStartSec=180",
        # The API server waits a minute for those who watch. What it has answered is in etcd.
        "TimeoutStopSec=15",
        *hardened,
    ]


def _environment(variables: Mapping[str, str]) -> list[str]:
    return [f"Environment={name}={value}" for name, value in sorted(variables.items())]


def _quoted(argument: str) -> str:
    # A percent sign begins one of systemd's own specifiers.
    escaped = argument.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if re.search(r"[\s;']", escaped) else escaped


def _text(sections: Mapping[str, Iterable[str]]) -> str:
    parts = ("\n".join([f"[{name}]", *lines]) for name, lines in sections.items())
    return "\n\n".join(parts) + "\n"
