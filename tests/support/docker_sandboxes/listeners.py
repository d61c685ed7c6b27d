"""Containers that take connections, whoever makes them."""

from typing import Any

_WAIT = """left=300
until [ $(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -c ' 0A ') -ge {} ]; do
  left=$((left - 1)); [ $left -gt 0 ] || exit 1; sleep 0.1
done"""


def listen(*ports: int) -> list[str]:
    """A command of busybox' that goes on with it for ever."""
    return ["sh", "-c", "".join(f"nc -ll -p {port} -e /bin/echo & " for port in ports) + "while :; do sleep 1; done"]


def listening(container: Any, ports: int) -> Any:
    """The container, as soon as it listens on so many."""
    code, output = container.exec_run(["sh", "-c", _WAIT.format(ports)])
    assert code == 0, output
    container.reload()
    return container
