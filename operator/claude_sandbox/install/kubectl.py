"""kubectl, pointed at one cluster."""

import json
import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from claude_sandbox.install.errors import SetupError
from claude_sandbox.install.manifests import Manifest

_MANAGER = "claude-sandbox-install"
_LOGGED = re.compile(r"^[IWEF][0-9]{4} .*\n?", re.MULTILINE)
"""What a library of kubectl's logs before kubectl says the same in a line of its own."""


class Kubectl:
    """Runs `program`. Without a kubeconfig and a context kubectl's own rules decide which cluster that is.

    Objects go in on standard input, so that nothing of them is on a command line.
    """

    def __init__(self, program: Path, kubeconfig: str | None = None, context: str | None = None) -> None:
        self._program = program
        self._environment = {**os.environ, **({"KUBECONFIG": kubeconfig} if kubeconfig else {})}
        self._context = ("--context", context) if context else ()

    def run(self, *arguments: str, stdin: str | None = None, timeout: float = 60.0) -> str:
        """What kubectl prints. Raises SetupError where it fails, or takes longer than `timeout` seconds."""
        try:
            done = subprocess.run(
                [self._program, *self._context, *arguments],
                input=stdin or "",
                capture_output=True,
                text=True,
                check=False,
                timeout=timeout,
                env=self._environment,
            )
        except subprocess.TimeoutExpired:
            raise SetupError(
                f"kubectl {' '.join(arguments)} gave no answer within {timeout:.0f} s.",
                "See whether the cluster's API server can be reached: kubectl cluster-info",
            ) from None
        if done.returncode != 0:
            said = _LOGGED.sub("", done.stderr).strip() or done.stdout.strip() or f"exit code {done.returncode}"
            raise SetupError(
                f"kubectl {' '.join(arguments)}: {said}",
                "See that the kubeconfig's user may do this, and that the cluster is well: kubectl get --raw /readyz",
            )
        return done.stdout

    def get(self, resource: str, name: str, namespace: str | None = None) -> Manifest | None:
        """One object, None where there is none. Raises SetupError where the cluster doesn't know the kind."""
        scope = ("--namespace", namespace) if namespace else ()
        found = self.run("get", resource, name, *scope, "--ignore-not-found", "--output=json")
        result: Manifest | None = json.loads(found) if found.strip() else None
        return result

    def list(self, resource: str, namespace: str | None = None, selector: str = "") -> list[Manifest]:
        """The objects of a namespace, or of the whole cluster; of several kinds with commas between them."""
        scope = ("--namespace", namespace) if namespace else ("--all-namespaces",)
        found = self.run("get", resource, *scope, f"--selector={selector}", "--output=json")
        items: list[dict[str, Any]] = json.loads(found)["items"]
        return items

    def apply(self, manifests: Iterable[Manifest], *, dry_run: bool = False, force: bool = False) -> str:
        """Server-side apply, refusing unknown fields. `force` takes fields over that others have set."""
        options = [*(["--dry-run=server"] if dry_run else []), *(["--force-conflicts"] if force else [])]
        return self.run(
            "apply", "--server-side", f"--field-manager={_MANAGER}", "--validate=strict", *options, "--filename=-",
            stdin=as_list(manifests),
        )  # fmt: skip

    def delete(self, manifests: Iterable[Manifest]) -> str:
        """Delete the objects and wait until they are gone; those that don't exist are no matter."""
        return self.run("delete", "--ignore-not-found", "--wait", "--filename=-", stdin=as_list(manifests), timeout=180)


def as_list(manifests: Iterable[Manifest]) -> str:
    """The objects as one document, as kubectl reads it."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
