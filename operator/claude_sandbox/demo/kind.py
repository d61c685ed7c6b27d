"""A cluster by kind, whose own network enforces policies from version 0.24 on."""

import re
import shutil
import subprocess
from pathlib import Path

from claude_sandbox.install.errors import SetupError
from claude_sandbox.install.manifests import sources
from claude_sandbox.install.waiting import Say
from claude_sandbox.localcluster.images import ImageArchive
from claude_sandbox.localcluster.layout import clusters_dir

NAME = "claude-sandbox"
ENFORCES_SINCE = (0, 24)
# Pulling the node's image may take long.
_CREATE_PATIENCE = 900.0
_PATIENCE = 300.0


def usable(say: Say) -> bool:
    """Whether kind and a Docker Engine are there. Raises SetupError where kind is too old to enforce policies."""
    if shutil.which("kind") is None:
        say("kind is not installed.")
        return False
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode
    ):
        say("kind is installed, but no Docker Engine answers.")
        return False
    found = re.search(r"v(\d+)\.(\d+)", _run("kind", "version"))
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    if version < ENFORCES_SINCE:
        raise SetupError(
            f"kind {'.'.join(map(str, version))} does not enforce NetworkPolicies.",
            f"Install kind {'.'.join(map(str, ENFORCES_SINCE))} or newer, or give another cluster by KUBECONFIG.",
        )
    return True


def exists() -> bool:
    """Whether the demo's cluster is there."""
    return shutil.which("kind") is not None and NAME in _run("kind", "get", "clusters").split()


def up(say: Say) -> str:
    """The cluster's kubeconfig file, after making the cluster where there is none. Raises SetupError."""
    file = _kubeconfig()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if exists():
        say(f"Using the kind cluster {NAME!r}, which is there already.")
        _run("kind", "export", "kubeconfig", "--name", NAME, "--kubeconfig", str(file))
        return str(file)
    config = sources().parent / "kind-config.yaml"
    say(f"Making the kind cluster {NAME!r}; the first time its image is pulled, which may take minutes.")
    _run(
        "kind", "create", "cluster", "--name", NAME, "--config", str(config), "--kubeconfig", str(file),
        "--wait", "180s", patience=_CREATE_PATIENCE,
    )  # fmt: skip
    return str(file)


def down() -> None:
    """Remove the cluster. Raises SetupError."""
    _run("kind", "delete", "cluster", "--name", NAME, "--kubeconfig", str(_kubeconfig()))
    _kubeconfig().unlink(missing_ok=True)


def load(name: str, image: ImageArchive) -> None:
    """Give the image to the cluster's nodes, by tag and by digest, where they lack it. Raises SetupError."""
    ctr = ("ctr", "--namespace", "k8s.io", "images")
    nodes = _run("kind", "get", "nodes", "--name", name).split()
    if all(image.pinned in _run("docker", "exec", node, *ctr, "list", "--quiet").split() for node in nodes):
        return
    _run("kind", "load", "image-archive", str(image.path), "--name", name)
    for node in nodes:
        # kind names the image by its tag only.
        _run("docker", "exec", node, *ctr, "tag", "--force", image.reference, image.pinned)


def _kubeconfig() -> Path:
    return clusters_dir().parent / "kind.kubeconfig"


def _run(*command: str, patience: float = _PATIENCE) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=patience
        )
    except subprocess.TimeoutExpired:
        raise SetupError(
            f"{' '.join(command)} did not end within {patience:.0f} s.", "Run it yourself and see what it waits for."
        ) from None
    if done.returncode != 0:
        raise SetupError(
            f"{' '.join(command)} failed:\n{done.stderr.strip() or done.stdout.strip()}",
            "Mend what it says, and run the command again. To have a cluster without kind, take kind off PATH.",
        )
    return done.stdout
