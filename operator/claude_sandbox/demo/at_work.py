"""The agent at work by its gateway, and without a credential, on either backend: what the demo ends with."""

import textwrap
import time
from datetime import UTC, datetime

from claude_sandbox.blueprint import agent
from claude_sandbox.demo import sandbox
from claude_sandbox.demo.narrator import Narrator
from claude_sandbox.demo.place import Cluster, Place
from claude_sandbox.demo.provider import DENIED, Provider
from claude_sandbox.demo.work import show as work
from claude_sandbox.demo.work.repository import GitServer
from claude_sandbox.install.errors import SetupError

ASKED = "Answer with one word: pong"
_PATIENCE = 30
"""Seconds for the answer."""
_AUDIT_PATIENCE = 5.0
"""Seconds until a line is written, at most."""
_NAME = f"{sandbox.NAMESPACE}/{sandbox.NAME}"
_IDENTITY = f"{agent.KEY_DIRECTORY}/{agent.KEY_FILE}"
_KEYS = "sk-ant-"
"""How the Claude API's keys begin."""
_MOST = 16 << 20
"""Bytes of what is looked through."""
_READ = f"""
{{
    env
    cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline
    find {_IDENTITY} /run /etc /tmp {agent.HOME} {agent.WORKSPACE} \\( -type f -o -type l \\) -exec cat {{}} +
}} 2>/dev/null | LC_ALL=C tr -c '[:print:]' '\\n' | head -c {_MOST}
"""
"""All that is text of what the agent may read and is not of the image."""
_UNREACHED = (
    "The stand-in could not be reached. A firewall of the host, or a policy of the cluster's, may keep the gateway from"
    "\nit: see the audit below."
)
_NO_ANSWER = "That takes the Internet, and for Claude a key that the Claude API takes: see the audit below."


def show(
    place: Place, cluster: Cluster, provider: Provider, server: GitServer | None, key: str | None, narrator: Narrator
) -> None:
    """What does not go as it should is told, and ends nothing; but SetupError is raised where the sandbox holds a
    credential, or has changed what it may not. `server`: None where no repository is declared.
    """
    narrator.step("At work, by the gateway: the sandbox holds no key and has no other way out")
    if provider.stand_in:
        narrator.show("There is no key, so what answers is the demo's stand-in for the Claude API.")
    began = datetime.now(UTC)
    answered = _ask(place, provider, narrator)
    refusals = 1
    if server is not None:
        mode = work.Mode.UNANSWERED if not answered else work.Mode.SCRIPTED if provider.stand_in else work.Mode.MODEL
        refusals += work.show(place, cluster, _NAME, server, mode, narrator)
    narrator.step("What the gateway wrote down, and what the sandbox holds")
    narrator.show(f"$ claude-sandbox audit {_NAME}     # what the gateway let through, and what not")
    narrator.show(_audit(cluster, began, refusals))
    of_git = (server.token,) if server is not None else ()
    narrator.show(without_key(place, (key,) if key else (sandbox.PLACEHOLDER, _KEYS), of_git))


def _ask(place: Place, provider: Provider, narrator: Narrator) -> bool:
    """Whether Claude Code was answered."""
    answered = False
    curl = ("curl", "--silent", "--show-error", "--max-time", "20")
    denied = f"https://{DENIED}/"
    for argv, shown in (
        # Without an answer it tries again and again.
        (("timeout", str(_PATIENCE), "claude", "-p", ASKED), f"claude -p '{ASKED}'"),
        ((*curl, "--output", "/dev/null", "--write-out", "%{http_code}", provider.url), f"curl {provider.url}"),
        ((*curl, denied), f"curl {denied}"),
    ):
        narrator.show(f"$ {place.command} {shown}")
        code, said = place.run(*argv)
        narrator.show(textwrap.shorten(said, 400) or f"(nothing, exit code {code})")
        answered |= code == 0 and "claude" in argv
        if code != 0 and argv[-1] != denied:
            narrator.show(_UNREACHED if provider.stand_in else _NO_ANSWER)
    return answered


def without_key(place: Place, keys: tuple[str, ...], tokens: tuple[str, ...] = ()) -> str:
    """A sentence that the key, and a token for git, are nowhere in the sandbox, after a look. Raises SetupError where
    one is.

    What is read is looked through here: the sandbox is never told what is looked for.
    """
    _, held = place.run("sh", "-c", _READ)
    _, identity = place.run("cat", _IDENTITY)
    if not identity.strip() or identity.strip() not in held:
        raise SetupError(
            "What the sandbox can read could not be looked through: not even what it shows its gateway was found.",
            f"Look at it: {place.command} ls -lR {agent.KEY_DIRECTORY}",
        )
    if any(key in held for key in (*keys, *tokens)):
        what = "key" if any(key in held for key in keys) else "token for git"
        raise SetupError(
            f"The {what} of the Secret is in the sandbox, which is to hold none.",
            f"Revoke the {what}. If an earlier version made this sandbox, remove it (make demo-down) and begin anew.",
        )
    return textwrap.fill(
        f"The Secret's key is not in the sandbox{', nor is the token for git' if tokens else ''}: not in its "
        "environment, in what its processes were started with, in "
        f"/run, /etc, /tmp, its home or its workspace. {len(held) >> 10} KiB were looked through. What was found is "
        f"{_IDENTITY}, by which its gateway knows it, and which is worth nothing elsewhere.",
        118,
        break_on_hyphens=False,
    )


def _audit(cluster: Cluster, began: datetime, refusals: int) -> str:
    """What the gateway has written since, once the last that was refused is in it."""
    end = time.monotonic() + _AUDIT_PATIENCE
    while True:
        told = cluster.run("audit", _NAME, "--since", began.isoformat())
        if told.count("Refused") >= refusals or time.monotonic() > end:
            return told
