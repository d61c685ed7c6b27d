"""A server of an engine's or a node's network as programs of an agent ask it, by TLS: pages, a package index of one
package, and a git repository. A process of its own."""

import base64
import contextlib
import functools
import hashlib
import http.server
import ssl
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "greeter"


@contextlib.contextmanager
def index_process(network: Path, address: str, certificate: tuple[Path, Path], directory: Path) -> Iterator[int]:
    """One on this address of a network namespace; its port. `/page`, `/simple/`, and `/project.git` by dumb HTTP."""
    files = directory / "served"
    files.mkdir()
    (files / "page").write_text("a page\n")
    _package(files / "simple" / PACKAGE)
    _repository(files / "project.git", directory / "work")
    log = directory / "index.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["nsenter", f"--net={network}", "--", sys.executable, __file__, address, *map(str, certificate), files],
            stdout=out,
            stderr=subprocess.DEVNULL,
        )
    try:
        deadline = time.monotonic() + 30
        while not (text := log.read_text()).endswith("\n"):
            assert process.poll() is None
            assert time.monotonic() < deadline, "the index does not listen"
            time.sleep(0.02)
        yield int(text)
    finally:
        process.kill()
        process.wait()


def _package(directory: Path) -> None:
    """A wheel with an entry point, and its page in the index."""
    info = f"{PACKAGE}-1.dist-info"
    files = {
        f"{PACKAGE}.py": "def main():\n    print('hello')\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\ngreet = {PACKAGE}:main\n",
    }
    directory.mkdir(parents=True)
    wheel = directory / f"{PACKAGE}-1-py3-none-any.whl"
    record = [f"{name},sha256={_digest(text)},{len(text)}" for name, text in files.items()]
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,", ""]))
    (directory / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>\n')


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def _repository(bare: Path, work: Path) -> None:
    def git(*arguments: str, at: Path) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", *identity, *arguments], cwd=at, check=True, capture_output=True)

    work.mkdir()
    git("init", "-q", "-b", "main", at=work)
    (work / "README").write_text("read me\n")
    git("add", "-A", at=work)
    git("commit", "-qm", "one", at=work)
    git("clone", "-q", "--bare", str(work), str(bare), at=work)
    git("update-server-info", at=bare)


def main(address: str, certificate: str, key: str, files: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=files)
    with http.server.ThreadingHTTPServer((address, 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        print(server.server_address[1], flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
