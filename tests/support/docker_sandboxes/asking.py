"""Requests for the model from within a sandbox's network, many at once, as an agent could send them."""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dockerkit import Sandbox, process_of

from claude_sandbox.backends.docker.gateway import accounts
from claude_sandbox.gateway.budget.ledger import Account, loads


@dataclass(frozen=True)
class Asked:
    """A request: its HTTP status (0 where the connection broke), what the answer says, and when it was sent and
    answered, in seconds of the machine's monotonic clock."""

    status: int
    body: str
    sent: float
    answered: float


# Sends COUNT requests at once; or, where COUNT is 0, one after the other until its input ends.
_CLIENT = """
import asyncio, json, sys, threading, time
address, key, count, slow, output = sys.argv[1:]
body = json.dumps({"model": "claude-test-1", "max_tokens": int(output), "messages": [{"role": "user", "content": "x"}]})

def request():
    # The key that the sandbox has at this moment.
    lines = ["POST /v1/messages HTTP/1.1", "host: gateway", "connection: close", "content-type: application/json",
             "x-api-key: " + open(key).read().strip(), "x-slow: " + slow, "content-length: " + str(len(body)), "", body]
    return "\\r\\n".join(lines).encode()

async def ask():
    sent, answer = time.monotonic(), b""
    try:
        reader, writer = await asyncio.open_connection(address, 8080)
        writer.write(request())
        answer = await reader.read()
        writer.close()
    except OSError:
        pass
    head, _, rest = answer.decode().partition("\\r\\n\\r\\n")
    return [int(head.split()[1]) if head else 0, rest, sent, time.monotonic()]

async def main():
    if int(count):
        return await asyncio.gather(*(ask() for _ in range(int(count))))
    ended, found = threading.Event(), []
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    while not ended.is_set():
        found.append(await ask())
    return found

print(json.dumps(asyncio.run(main())))
"""


def _client(one: Sandbox, count: int, slow: float, output: int) -> subprocess.Popen[str]:
    gateway = one.sdk.api.inspect_container(one.names.gateway)
    address = gateway["NetworkSettings"]["Networks"][one.names.network]["IPAddress"]
    network = process_of(one) / "ns" / "net"
    key = process_of(one) / "root" / "run/claude-sandbox/api-key/api-key"
    return subprocess.Popen(
        ["nsenter", f"--net={network}", "--", sys.executable, "-I", "-c", _CLIENT,
         address, str(key), str(count), str(slow), str(output)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


async def ask(one: Sandbox, count: int, *, slow: float = 0.0, output: int = 10) -> list[Asked]:
    """So many requests at once, each of which may write so many tokens; answers take `slow` seconds."""
    process = await asyncio.to_thread(_client, one, count, slow, output)
    return await asyncio.to_thread(_ended, process)


@contextlib.contextmanager
def asking(one: Sandbox, *, output: int = 10) -> Iterator[list[Asked]]:
    """Requests one after the other for as long as the block lasts; all of them are in the list after it."""
    process, found = _client(one, 0, 0.0, output), list[Asked]()
    try:
        yield found
    finally:
        found += _ended(process)


def _ended(process: subprocess.Popen[str]) -> list[Asked]:
    out = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    return [Asked(*each) for each in json.loads(out)]


def account_file(one: Sandbox) -> Path:
    """The file of the sandbox's account, as its gateway, which has to run, sees it."""
    return process_of(one, one.names.gateway) / "root" / accounts.DIRECTORY.lstrip("/") / f"{one.identity.uid}.json"


def account_of(one: Sandbox) -> Account:
    """What its gateway has counted."""
    file = account_file(one)
    return loads(json.dumps(json.loads(file.read_text())["account"])) if file.exists() else Account()


async def settled_to(one: Sandbox, tokens: int) -> None:
    """An answer is there before the account says so."""
    async with asyncio.timeout(10):
        while (account := account_of(one)).reserved or account.written != tokens:  # noqa: ASYNC110 - in another process
            await asyncio.sleep(0.02)
