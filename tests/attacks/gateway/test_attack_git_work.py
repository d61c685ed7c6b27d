"""An agent has the gateway work for it, and everybody else's sandboxes wait.

On Kubernetes one gateway serves all sandboxes of a namespace. Each of these held its event loop, or a thread of which
there are few, for seconds to hours: a fetch of 60 KB that inflates to packets without number, a thousand branches at
one end of a long history, few large trees in many commits. Closed by looking through so much of a fetch and no more,
by threads for what is long, by looking at each commit once for a push, and by a bound for what is compared.

What is measured is the processor's time between two turns of the loop, so other processes have no part in it.
"""

import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import loopmeter
import pytest
import pytest_asyncio
from git_attacks import Made, packed
from git_lab import GitLab, git_lab

from claude_sandbox.gateway.git.forwarder import Judging
from claude_sandbox.gateway.git.pkt_line import FLUSH, packet
from claude_sandbox.gateway.git.push import history
from claude_sandbox.gateway.git.push.rules import PushRules
from claude_sandbox.gateway.git.spool import Room

LIMIT = 50.0
"""Milliseconds of a processor for which nothing else may have the loop."""
RULES = PushRules(("claude/*",), protected=(".github/**", "**/Makefile"))
ZERO = "0" * 40


@pytest_asyncio.fixture
async def lab(tmp_path: Path) -> AsyncIterator[GitLab]:
    judging = Judging(Room(tmp_path / "spool", 1 << 30, 4 << 30), compared=4 << 20)
    async with git_lab(tmp_path, RULES, judging=judging) as made:
        yield made


async def _sent(lab: GitLab, service: str, body: bytes, **headers: str) -> bytes:
    kind = {"content-type": f"application/x-{service}-request"}
    async with aiohttp.ClientSession() as session:
        url = f"{lab.url}/{service}"
        async with session.post(url, data=body, headers=kind | headers, skip_auto_headers=["expect"]) as answer:
            return await answer.read()


@pytest.mark.parametrize(
    "what", [FLUSH, packet(b"want " + b"a" * 40), packet(b"x" * 60_000)], ids=["flush", "want", "x"]
)
async def test_a_fetch_that_inflates_without_end(lab: GitLab, what: bytes) -> None:
    body = gzip.compress(what * ((64 << 20) // len(what)))
    assert len(body) < 300_000
    with loopmeter.measured() as found:
        await _sent(lab, "git-upload-pack", body, **{"content-encoding": "gzip"})
    assert found.milliseconds < LIMIT, found.what


async def test_a_thousand_branches_at_the_end_of_a_long_history(lab: GitLab, monkeypatch: pytest.MonkeyPatch) -> None:
    first = (await lab.refs())["refs/heads/main"]
    tree = (await lab.run("rev-parse", f"{first}^{{tree}}", at=lab.files / "team/project.git")).strip()
    made, tip, length = Made(first), first, 10_000
    for _ in range(length):
        tip = made.commit(bytes.fromhex(tree), parent=tip)
    commands = [f"{ZERO} {tip} refs/heads/claude/{number}" for number in range(1000)]
    commands[0] += "\0 report-status"
    body = b"".join(packet(one.encode()) for one in commands) + FLUSH + packed(*made.objects)
    read, before = 0, history.commit_of

    def counted(data: bytes) -> history.Commit:
        nonlocal read
        read += 1
        return before(data)

    monkeypatch.setattr(history, "commit_of", counted)
    with loopmeter.measured() as found:
        said = await _sent(lab, "git-receive-pack", body)
    assert b"ok refs/heads/claude/999" in said
    assert found.milliseconds < LIMIT, found.what
    assert read < 10 * length


async def test_few_large_trees_in_many_commits(lab: GitLab) -> None:
    first = (await lab.refs())["refs/heads/main"]
    made, tip = Made(first), first
    blob = made.blob()
    listed = (await lab.run("ls-tree", first, at=lab.files / "team/project.git")).splitlines()
    github = next((b"40000", b".github", bytes.fromhex(one.split()[2])) for one in listed if ".github" in one)
    files = [(b"100644", b"%05d" % one, blob) for one in range(1001)]
    trees = [made.tree(github, *files[start : start + 1000]) for start in (0, 1)]
    for number in range(200):
        tip = made.commit(trees[number % 2], parent=tip)
    command = packet(f"{ZERO} {tip} refs/heads/claude/x\0 report-status".encode())
    said = await _sent(lab, "git-receive-pack", command + FLUSH + packed(*made.objects))
    assert b"push them in parts" in said
