"""Hands a program a TCP socket of the machine's loopback, as systemd does (sd_listen_fds(3)), and becomes it.

`python -I listen.py PORT COMMAND…`, in the machine's network namespace. A socket belongs to the namespace that it was
made in, so the engine, which has another, can be reached from here without an interface between the two.
"""

import os
import socket
import sys

_FIRST = 3


def main(port: int, command: list[str]) -> None:
    listener = socket.socket()
    # Connections of the one that listened before may not have been forgotten yet.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(socket.SOMAXCONN)
    if listener.fileno() == _FIRST:
        os.set_inheritable(_FIRST, True)
    else:
        os.dup2(listener.fileno(), _FIRST)
    environment = {**os.environ, "LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
    os.execve(command[0], command, environment)  # noqa: S606


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
