"""What the operator may do in the control plane: what the manifests say for Docker, as a user of its own."""

from collections.abc import Iterator

from claude_sandbox.install.manifests import Installation, Manifest, render

USER = "claude-sandbox-operator"
"""The operator's name in its certificate. No service account: its tokens end, and its name is too long for one."""

_FIRST = ("CustomResourceDefinition", "Namespace")
_ROLES = ("ClusterRole", "Role")
_BINDINGS = ("ClusterRoleBinding", "RoleBinding")


def first() -> list[Manifest]:
    """What has to be there before anything else."""
    return [one for one in render(Installation(docker=True)) if one["kind"] in _FIRST]


def rights() -> list[Manifest]:
    """The roles, and their bindings to the operator's user."""
    return list(_rights())


def _rights() -> Iterator[Manifest]:
    user = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USER}
    for one in render(Installation(docker=True)):
        if one["kind"] in _ROLES:
            yield one
        elif one["kind"] in _BINDINGS:
            yield {**one, "subjects": [user]}
