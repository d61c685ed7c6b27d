"""`make demo`, step by step. Each step looks at what is there first, so that a second run changes nothing."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claude_sandbox.api import meta
from claude_sandbox.demo import at_work, beside, clusters, gateways, git_pod, report, sandbox, stand_in_pod
from claude_sandbox.demo.clusters import Target
from claude_sandbox.demo.narrator import Narrator
from claude_sandbox.demo.place import Cluster, in_pod
from claude_sandbox.demo.provider import CLAUDE_API, Provider
from claude_sandbox.demo.work.repository import GitServer
from claude_sandbox.install import applying, crds
from claude_sandbox.install.errors import SetupError
from claude_sandbox.install.kubectl import Kubectl
from claude_sandbox.install.manifests import NAMESPACE, OPERATOR, Installation
from claude_sandbox.install.waiting import Say, wait
from claude_sandbox.localcluster.images import build_image
from claude_sandbox.localcluster.programs import toolchain

_POD = f"pod/{meta.child_name(sandbox.NAME)}"
_THERE = ("--namespace", sandbox.NAMESPACE)
_INSIDE = ("exec", *_THERE, _POD, "--container", report.CONTAINER, "--")
_PATIENCE = 180.0


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line."""

    kubeconfig: str | None = None
    context: str | None = None
    operator_image: str | None = None
    sandbox_image: str | None = None


def run(options: Options, narrator: Narrator) -> None:
    """A cluster, the operator, and a sandbox that is Ready, Compliant and at work.

    Raises SetupError and LocalClusterError.
    """
    say = narrator.say
    program = toolchain.kubectl(say)
    narrator.step("A cluster")
    target = clusters.choose(options.kubeconfig, options.context, program, say)
    kubectl = target.kubectl
    clusters.require_node(kubectl)
    key = os.environ.get("ANTHROPIC_API_KEY", "").strip() or None
    provider, server = CLAUDE_API, None
    if _is_anothers(kubectl):
        narrator.step("The operator")
        say(f"One is installed in this cluster already (namespace {NAMESPACE}); it is used as it is, and so is what it")
        say(
            "has for the gateways of sandboxes. They can't reach a git server of the demo's, so no repository is shown."
        )
    else:
        narrator.step("Images of the operator, which is the gateways' too, and of the sandbox")
        images = _images(options, target, narrator)
        provider, server = _servers(kubectl, images, key, narrator)
        narrator.step("The operator")
        told = gateways.settings(provider, server)
        wanted = Installation(gateways=told, operator_image=images["operator"], sandbox_image=images["sandbox"])
        applying.install(kubectl, wanted, say, labels=sandbox.LABELS, force=True)
        say(f"Two replicas run in the namespace {NAMESPACE}; the one that holds the Lease acts.")
        # Before there is a key: what it is for is decided by what the gateway was told.
        _await_gateway(kubectl, told, say)
    narrator.step(f"A sandbox, {sandbox.NAME}, in the namespace {sandbox.NAMESPACE}")
    sandbox.namespace(kubectl, say)
    sandbox.secret(kubectl, key, say)
    if server is not None:
        sandbox.git_secret(kubectl, server)
    sandbox.sandbox(kubectl, provider.domain, server, say)
    sandbox.await_ready(kubectl, say, lambda: _troubles(kubectl), _logs(target))
    # One pod of the gateway's is enough to be Ready; the listing is to show both.
    wait(lambda: applying.rollout(kubectl, meta.GATEWAY, sandbox.NAMESPACE), say, _PATIENCE)
    _show(kubectl, target, narrator)
    place = in_pod(kubectl, sandbox.NAMESPACE, _POD, report.CONTAINER)
    context = ("--context", target.context) if target.context else ()
    at_work.show(place, Cluster(context, target.kubeconfig), provider, server, key, narrator)
    _further(target, program, narrator)


def down(options: Options, narrator: Narrator) -> bool:
    """Remove what the demo made: its own cluster, or its objects from a cluster that was named.

    Whether there may have been anything.
    """
    say = narrator.say
    explicit = clusters.named(options.kubeconfig)
    if explicit is None:
        return clusters.down(say)
    kubectl = clusters.choose(explicit, options.context, toolchain.kubectl(say), say).kubectl
    sandbox.remove(kubectl, say)
    beside.down(kubectl, say)
    if not sandbox.is_demos(kubectl.get("namespace", NAMESPACE)):
        say("The operator was not installed by the demo, so it stays.")
    elif others := kubectl.list(meta.PLURAL) if kubectl.get("crd", crds.CRD) else []:
        names = ", ".join(f"{one['metadata']['namespace']}/{one['metadata']['name']}" for one in others[:5])
        say(f"There are other sandboxes ({names}), so the operator stays. Delete them and run this again.")
    else:
        say("Removing the operator.")
        applying.uninstall(kubectl, say)
    return True


def _servers(
    kubectl: Kubectl, images: Mapping[str, str], key: str | None, narrator: Narrator
) -> tuple[Provider, GitServer]:
    """What the sandbox's gateway is to reach."""
    narrator.step("A git server of the demo's own, with a private repository")
    git = git_pod.begin(kubectl, images["sandbox"])
    provider = _provider(kubectl, images["operator"], key, narrator)
    return provider, git_pod.found(kubectl, git, narrator.say)


def _provider(kubectl: Kubectl, image: str, key: str | None, narrator: Narrator) -> Provider:
    """The Claude API once there was a key: what the Secret holds then goes to nobody else."""
    if key or sandbox.has_key(kubectl):
        stand_in_pod.down(kubectl, narrator.say)
        return CLAUDE_API
    narrator.step("A stand-in for the Claude API")
    return stand_in_pod.up(kubectl, image, narrator.say)


def _await_gateway(kubectl: Kubectl, settings: Mapping[str, Any], say: Say) -> None:
    """Until a gateway of an earlier run, where there is one, has been told what holds now."""

    def look() -> str | None:
        found = kubectl.get("deployment", meta.GATEWAY, sandbox.NAMESPACE)
        if found is None:
            return None
        told = json.loads(found["spec"]["template"]["metadata"]["annotations"][meta.ANNOTATION_GATEWAY])
        if any(told.get(section) != settings.get(section) for section in ("provider", "egress")):
            return "The gateway is to be told of other servers."
        return applying.rollout(kubectl, meta.GATEWAY, sandbox.NAMESPACE)

    if not wait(look, say, _PATIENCE):
        raise SetupError(
            f"After {_PATIENCE:.0f} s: {look()}\n{_troubles(kubectl)}",
            "Mend what is said above, and run the command again. Or remove the demo (make demo-down) and begin anew.",
        )


def _is_anothers(kubectl: Kubectl) -> bool:
    """Whether somebody else installed an operator here."""
    return kubectl.get("deployment", OPERATOR, NAMESPACE) is not None and not sandbox.is_demos(
        kubectl.get("namespace", NAMESPACE)
    )


def _images(options: Options, target: Target, narrator: Narrator) -> dict[str, str]:
    """The references that pods are to name, after the images were given to the cluster where they come from here."""
    given = {"operator": options.operator_image, "sandbox": options.sandbox_image}
    result = {name: reference for name, reference in given.items() if reference}
    missing = [name for name in given if name not in result]
    if missing and target.load is None:
        options_missing = " ".join(f"--{name}-image REFERENCE" for name in missing)
        raise SetupError(
            "This cluster is not on this machine, so its nodes can't be given images that no registry has.",
            "Build the images (`make images`), push them to a registry that the cluster pulls from, and run "
            f"`claude-sandbox demo {options_missing}`.",
        )
    for name in missing:
        image = build_image(name, narrator.say)
        assert target.load is not None  # noqa: S101 - said above
        narrator.say(f"Giving the cluster {image.pinned}")
        target.load(image)
        result[name] = image.pinned
    return result


def _troubles(kubectl: Kubectl) -> str:
    """What keeps the operator's pods from running, else the sandbox's and its gateway's."""
    if why := applying.troubles(kubectl, NAMESPACE):
        return f"The operator is in trouble:\n{why}"
    return applying.troubles(kubectl, sandbox.NAMESPACE)


def _logs(target: Target) -> tuple[str, ...]:
    return (
        f"kubectl describe claudesandbox {sandbox.NAME} --namespace {sandbox.NAMESPACE}",
        f"kubectl logs --namespace {NAMESPACE} deployment/{OPERATOR} --all-pods",
        *target.logs,
    )


def _show(kubectl: Kubectl, target: Target, narrator: Narrator) -> None:
    narrator.step("What there is now")
    version = (*_INSIDE, "claude", "--version")
    for command in (("get", "claudesandboxes", *_THERE), ("get", "deployments", *_THERE), version):
        narrator.show(f"$ kubectl {' '.join(command)}")
        narrator.show(kubectl.run(*command))
    _show_denial(kubectl, narrator)
    found = kubectl.get(meta.PLURAL, sandbox.NAME, sandbox.NAMESPACE)
    assert found is not None  # noqa: S101 - it was Ready a moment ago
    for line in report.controls(found):
        narrator.show(line)


def _further(target: Target, program: Path, narrator: Narrator) -> None:
    narrator.step("To look further")
    shown = "kubectl" if shutil.which("kubectl") else str(program)
    for line in report.further(target.kubeconfig, shown, sandbox.NAMESPACE, sandbox.NAME):
        narrator.show(line)
    named = "" if clusters.named(None) is None else f"KUBECONFIG={target.kubeconfig} "
    narrator.show(f"\nTo remove all of it: {named}make demo-down")


def _show_denial(kubectl: Kubectl, narrator: Narrator) -> None:
    """Whether policies are enforced: not every cluster's network does. The operator's pod is the control.

    It connects to the very address that the sandbox tries, or it would not be ready.
    """
    attempt = (
        'timeout 3 bash -c "</dev/tcp/$KUBERNETES_SERVICE_HOST/$KUBERNETES_SERVICE_PORT" 2>/dev/null'
        " && echo connected || echo denied"
    )
    if kubectl.run(*_INSIDE, "bash", "-c", attempt).strip() != "denied":
        raise SetupError(
            "The sandbox can connect to the API server, which its NetworkPolicy denies: this cluster's network does "
            "not enforce NetworkPolicies, so sandboxes in it are not isolated.",
            "Use a cluster with a network that enforces them, for example Cilium, Calico, or kind 0.24 and newer.",
        )
    narrator.show(
        "From inside the sandbox a connection to the API server was denied. The operator's pod connects to the same "
        "address, so that is the policy's doing."
    )
