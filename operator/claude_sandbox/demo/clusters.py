"""Which cluster the demo uses: one that was named, else kind, else a local cluster of its own."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from claude_sandbox.demo import kind
from claude_sandbox.install.errors import SetupError
from claude_sandbox.install.kubectl import Kubectl
from claude_sandbox.install.waiting import Say
from claude_sandbox.localcluster import cluster as local
from claude_sandbox.localcluster import description, node
from claude_sandbox.localcluster.images import ImageArchive
from claude_sandbox.localcluster.layout import Layout, clusters_dir

LOCAL = "demo"


@dataclass(frozen=True)
class Target:
    """A cluster to use. `load` gives it an image; it is None where images have to come from a registry."""

    kubectl: Kubectl
    kubeconfig: str | None
    load: Callable[[ImageArchive], None] | None
    logs: tuple[str, ...] = ()
    context: str | None = None


def named(kubeconfig: str | None) -> str | None:
    """The kubeconfig that was named, by option or by KUBECONFIG. ~/.kube/config alone names nothing."""
    return kubeconfig or os.environ.get("KUBECONFIG") or None


def choose(kubeconfig: str | None, context: str | None, program: Path, say: Say) -> Target:
    """The cluster, brought up where it is one of the demo's own. Raises SetupError and LocalClusterError."""
    if explicit := named(kubeconfig):
        return _existing(explicit, context, program, say)
    if context:
        raise SetupError(
            f"--context {context} says nothing without a kubeconfig.", "Give one: --kubeconfig FILE, or set KUBECONFIG."
        )
    if kind.usable(say):
        file = kind.up(say)
        return Target(Kubectl(program, file), file, lambda image: kind.load(kind.NAME, image))
    if description.load(Layout.of(LOCAL)) is None:
        say(f"Making a local cluster, {LOCAL!r}: Kubernetes built from source, with a node. The first time, that takes")
        say("some minutes.")
    else:
        say(f"Using the local cluster {LOCAL!r}.")
    made = local.up(LOCAL, node=True, report=say)
    return Target(
        Kubectl(program, str(made.kubeconfig)),
        str(made.kubeconfig),
        lambda image: node.load_image(made.layout, image),
        (f"claude-sandbox cluster status --name {LOCAL}", f"claude-sandbox cluster logs --name {LOCAL}"),
    )


def require_node(kubectl: Kubectl) -> None:
    """Raise SetupError for a cluster in which no pod will ever run, rather than wait for one."""
    try:
        nodes = kubectl.run("get", "nodes", "--output=name").strip()
    except SetupError:
        # Who may not look at nodes may have some.
        return
    if not nodes:
        raise SetupError(
            "This cluster has no node: it is a control plane alone, and no pod can run in it.",
            "For sandboxes on this machine's Docker Engine, with a control plane of the demo's own: "
            "make demo BACKEND=docker. Or name a cluster with nodes, or unset KUBECONFIG to have one made.",
        )


def down(say: Say) -> bool:
    """Remove the clusters that the demo made; whether there was one. Raises SetupError and LocalClusterError."""
    found = False
    if kind.exists():
        say(f"Removing the kind cluster {kind.NAME!r}.")
        kind.down()
        found = True
    if Layout.of(LOCAL).root.exists():
        local.down(LOCAL, say)
        found = True
    return found


def _existing(kubeconfig: str, context: str | None, program: Path, say: Say) -> Target:
    if not any(Path(file).is_file() for file in kubeconfig.split(os.pathsep)):
        raise SetupError(
            f"There is no kubeconfig {kubeconfig}.",
            "Name a file that exists, or unset KUBECONFIG to have a cluster made.",
        )
    kubectl = Kubectl(program, kubeconfig, context)
    used = context or kubectl.run("config", "current-context").strip()
    server = kubectl.run("config", "view", "--minify", "--output=jsonpath={.clusters[0].cluster.server}").strip()
    say(f"Using the context {used!r} of {kubeconfig}: {server}")
    kubectl.run("get", "--raw", "/readyz")
    return Target(kubectl, kubeconfig, _loader(used, server), context=context)


def _loader(context: str, server: str) -> Callable[[ImageArchive], None] | None:
    """How images get to a cluster that is on this machine."""
    if context.startswith("kind-") and shutil.which("kind"):
        return lambda image: kind.load(context.removeprefix("kind-"), image)
    for directory in clusters_dir().iterdir() if clusters_dir().is_dir() else ():
        layout = Layout(directory)
        found = description.load(layout)
        if found is not None and found.node and found.server == server:
            return lambda image: node.load_image(layout, image)
    return None
