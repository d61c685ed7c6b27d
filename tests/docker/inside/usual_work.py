"""Runs in a sandbox: what ordinary programs do, each part for itself. Prints the names of those that worked."""

import asyncio
import concurrent.futures
import ctypes
import fcntl
import mmap
import multiprocessing
import os
import pty
import select
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

os.chdir(tempfile.mkdtemp(dir="/workspace"))


def sh(script: str) -> str:
    return subprocess.run(["sh", "-ec", script], check=True, capture_output=True, text=True).stdout


def git() -> None:
    identity = "-c user.name=a -c user.email=a@example.org"
    sh(f"git init -q g; cd g; echo a > a; git add a; git {identity} commit -qm one; git gc -q; git clone -q . ../h")
    assert sh("git -C h log --format=%s") == "one\n"


def shell() -> None:
    assert (
        sh("printf 'b\\na\\n' | sort | tee t | head -n1; find . -name t; tar c t | xz | xz -d | tar t") == "a\n./t\nt\n"
    )
    assert "timeout" in sh("timeout 5 ps ax; nice -n1 timeout --help; df . ; free; id; uname -a; nproc; flock t true")
    assert sh("rg -l a . | grep -c . ; jq -n 1; file t; diff t t; curl --version | wc -l; less --version | wc -l")


def threads() -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda one: one * one, range(100))) == 328350


def processes() -> None:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(abs, [-3]) == [3]


def sockets() -> None:
    async def both() -> bytes:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.read(4))
            await writer.drain()
            writer.close()

        got = b""
        for serve, ask in (
            (asyncio.start_server(answer, "127.0.0.1", 8123), lambda: asyncio.open_connection("127.0.0.1", 8123)),
            (asyncio.start_unix_server(answer, "s"), lambda: asyncio.open_unix_connection("s")),
        ):
            async with await serve:
                reader, writer = await ask()
                writer.write(b"ping")
                got += await reader.read(4)
                writer.close()
        return got

    assert asyncio.run(both()) == b"pingping"
    assert socket.getaddrinfo("localhost", 80)
    one, other = socket.socketpair()
    socket.send_fds(one, [b"x"], [0])
    assert socket.recv_fds(other, 1, 1)[1]
    socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
    assert [name for _, name in socket.if_nameindex()]


def terminals() -> None:
    outer, inner = pty.openpty()
    shell = ["sh", "-ec", "test -t 0; stty size; echo on a terminal"]
    subprocess.run(shell, stdin=inner, stdout=inner, check=True, start_new_session=True)
    seen = b""
    while b"on a terminal" not in seen:
        seen += os.read(outer, 1024)


def waiting() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_CLOEXEC)
    assert watch >= 0
    assert libc.inotify_add_watch(watch, b".", 0x100) >= 0
    epoll = select.epoll()
    epoll.register(watch, select.EPOLLIN)
    threading.Timer(0.1, Path("made").touch).start()
    assert epoll.poll(5)
    assert b"made" in os.read(watch, 4096)
    assert os.memfd_create("m") >= 0
    child = os.fork()
    if child == 0:
        os._exit(7)
    assert select.select([os.pidfd_open(child)], [], [], 5)[0]
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def signals() -> None:
    got = []
    signal.signal(signal.SIGUSR1, lambda *_: got.append(1))
    os.kill(os.getpid(), signal.SIGUSR1)
    signal.signal(signal.SIGALRM, lambda *_: got.append(2))
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    time.sleep(0.05)
    assert got == [1, 2]


def files() -> None:
    with Path("f").open("w+b") as file:
        file.write(b"x" * 8192)
        file.flush()
        os.fsync(file.fileno())
        fcntl.flock(file, fcntl.LOCK_EX)
        fcntl.lockf(file, fcntl.LOCK_EX)
        with mmap.mmap(file.fileno(), 0) as mapped:
            mapped[0:1] = b"y"
        os.posix_fallocate(file.fileno(), 0, 16384)
    shutil.copyfile("f", "copied")
    shutil.copytree(".", "/tmp/copy", symlinks=True, ignore=lambda *_: ["g", "h", "s", "fifo"], dirs_exist_ok=True)
    os.mkfifo("fifo")
    os.link("f", "l")
    Path("sl").symlink_to("f")
    Path("f").chmod(0o600)
    Path("l").rename("k")
    os.utime("f")
    assert {"f", "k", "sl"} <= {entry.name for entry in os.scandir(".")}
    base = sqlite3.connect("db", isolation_level=None)
    base.execute("pragma journal_mode=wal")
    base.execute("create table t (a)")
    os.sched_setaffinity(0, os.sched_getaffinity(0))
    os.nice(1)


PARTS: list[Callable[[], None]] = [
    git, shell, threads, processes, sockets, terminals, waiting, signals, files
]  # fmt: skip

if __name__ == "__main__":
    for part in PARTS:
        part()
        print(part.__name__, flush=True)
