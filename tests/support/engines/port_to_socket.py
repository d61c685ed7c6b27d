"""Gives a server that listens on a socket of the file system a port of 127.0.0.1: `port_to_socket.py PORT SOCKET`.

Started in another network it has the server of this one there: sockets of the file system belong to none.
"""

import contextlib
import socket
import sys
import threading


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _serve(client: socket.socket, path: str) -> None:
    with client, socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        back = threading.Thread(target=_copy, args=(server, client), daemon=True)
        back.start()
        _copy(client, server)
        back.join()


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
        print("listening", flush=True)
        while True:
            threading.Thread(target=_serve, args=(listener.accept()[0], sys.argv[2]), daemon=True).start()
