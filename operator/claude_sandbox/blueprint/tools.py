"""Claude Code in an image that is anybody's: what is mounted into it, and what of the image it is kept from.

The operator's image has one directory in which Claude Code is with all that it needs of a system (loader, libraries, a
shell for its probes and one for its commands, certificates; images/sandbox/gather-tools). It is mounted read-only, over
whatever the image has there. What a sandbox starts with, and is asked by whether it works, is named there by its whole
path, so that no program of the image stands in for it. What of the image's environment is read before managed settings
are (loader, shell, runtime) is emptied.

An image counts as anybody's wherever the spec names one, also one that was built from the operator's: what runs must
not depend on what somebody says that an image is. Only the very reference of the operator's default is taken for it.
"""

from collections.abc import Mapping
from types import MappingProxyType

from claude_sandbox.blueprint.model import Image, Tools
from claude_sandbox.claudecode.pinned import Programs

DIRECTORY = "/opt/claude-sandbox"
SIZE = 512 << 20
"""Bytes. Claude Code's program alone has 380 MiB (2.1.331)."""
NO_SHELL = 78
"""The entry point's exit code where the image can't even run a shell."""
UNUSABLE = (
    "The image {image} has no shell that runs here: an agent could do nothing in it. Name one of the node's"
    " architecture that has a /bin/sh; one that is distroless, or from scratch, needs a shell added."
)
"""What is said then, and what to do."""
CLAUDE = f"{DIRECTORY}/bin/claude"
BUSYBOX = f"{DIRECTORY}/libexec/busybox"
MANIFEST = f"{DIRECTORY}/manifest"
"""Lists all other files with their digests, as sha256sum does."""
PROGRAMS = Programs(f"{DIRECTORY}/libexec/bash", f"{BUSYBOX} cat")
ENTRY = (f"{DIRECTORY}/libexec/tini", "--", f"{DIRECTORY}/libexec/entrypoint")
CERTIFICATES = f"{DIRECTORY}/share/ca-certificates.crt"

# Where the usual images of languages put their programs, then the usual places. No backend tells an image's own PATH
# before it runs, so that it is the same everywhere.
_PATH = (
    *("/usr/local/go/bin", "/go/bin", "/usr/local/cargo/bin", "/opt/java/openjdk/bin", "/usr/share/maven/bin"),
    *("/usr/local/share/nvm/current/bin", "/opt/conda/bin"),
    *("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/home/claude/.local/bin"),
)

_EMPTIED = (
    # Of the dynamic loader: another image's libraries in our programs, or code of its own.
    *("LD_AUDIT", "LD_LIBRARY_PATH", "LD_PRELOAD"),
    # Of the C library: modules that it loads.
    *("GCONV_PATH", "LOCPATH"),
    # Of shells and runtimes: code that runs before what was asked for.
    *("BASH_ENV", "ENV", "PROMPT_COMMAND", "NODE_OPTIONS", "BUN_OPTIONS", "BUN_CONFIG_FILE"),
    # Settings that would stand above the managed ones.
    *("CLAUDE_CODE_MANAGED_SETTINGS_PATH", "CLAUDE_CODE_MOCK_REMOTE_SETTINGS", "CLAUDE_CODE_REMOTE_SETTINGS_PATH"),
)
"""Variables of which an empty value is as good as none, and which `spec.env` can't set either."""

ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(_EMPTIED, ""),
        "PATH": ":".join((f"{DIRECTORY}/bin", *_PATH)),
        "SHELL": PROGRAMS.shell,
        # Whom it believes: this one file, and a directory without any.
        "SSL_CERT_FILE": CERTIFICATES,
        "SSL_CERT_DIR": f"{DIRECTORY}/share",
        # Code that is run first. Of an empty value Claude Code says that it is not there, and ends (2.1.331).
        "BUN_INSPECT_PRELOAD": f"{DIRECTORY}/share/nothing.js",
        # The image may have no user of the agent's number, or one of another name.
        "USER": "claude",
    }
)
"""What every process of the sandbox gets, whatever the image says of these."""


def tools_for(image: Image, of_the_operator: Image) -> Tools | None:
    """What has to be brought into a sandbox's image; None for the operator's own, which has it."""
    if image.reference == of_the_operator.reference:
        return None
    return Tools(of_the_operator, DIRECTORY, SIZE)


def environment(chosen: Mapping[str, str]) -> dict[str, str]:
    """The variables; `chosen` is what `spec.env` says, which of these can only decide about the user's name."""
    return {**ENVIRONMENT, "USER": chosen.get("USER", ENVIRONMENT["USER"])}


def readiness(key_path: str) -> tuple[str, ...]:
    """As `agent.readiness`, with nothing of the image."""
    script = f'"$0" grep -q \'[^[:space:]]\' "$1" && exec {CLAUDE} auth status >/dev/null'
    return (BUSYBOX, "sh", "-c", script, BUSYBOX, key_path)
