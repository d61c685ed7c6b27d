"""What commands say where the API server, or the file that says where it is, does not do."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from claude_sandbox.api import meta
from claude_sandbox.cli.main import cli
from claude_sandbox.cli.unreadable import unread
from claude_sandbox.cli.work.errors import ROLES, refused
from claude_sandbox.install.manifests import sources
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import CredentialsError, from_kubeconfig, load
from claude_sandbox.kubernetes_api.errors import UNTRUSTED_SERVER, ApiError
from claude_sandbox.kubernetes_api.resources import SANDBOXES

FORBIDDEN = ApiError(403, "Forbidden", 'User "eve" cannot do that')


@pytest.mark.parametrize("right", ROLES)
def test_a_role_that_is_named_has_the_right(right: str) -> None:
    verbs, _, resource = right.rpartition(" ")
    users = yaml.safe_load_all((sources() / "rbac/users/users.yaml").read_text())
    (rules,) = (one["rules"] for one in users if one["metadata"]["name"] == ROLES[right])
    given = {(verb, one) for rule in rules for verb in rule["verbs"] for one in rule["resources"]}
    assert {(verb, resource) for verb in verbs.split(" and ")} <= given
    assert f"--clusterrole={ROLES[right]} " in refused(FORBIDDEN, "It", right, "agents").remedy


@pytest.mark.parametrize(("right", "namespace"), [("patch dockerhosts", ""), ("create secrets", "agents")])
def test_no_role_is_named_that_would_not_help(right: str, namespace: str) -> None:
    remedy = refused(FORBIDDEN, "It", right, namespace).remedy
    assert "rolebinding" not in remedy
    assert remedy.endswith("in namespace agents." if namespace else "in the cluster.")


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (ApiError(401, "Unauthorized", "Unauthorized"), "Log in again"),
        (ApiError(404, "NotFound", "none"), f"kubectl get {meta.BACKUP_PLURAL} --all-namespaces"),
        (ApiError(0, UNTRUSTED_SERVER, "self-signed"), "certificate authority"),
        (ApiError(503, "ServiceUnavailable", "later"), "kubectl cluster-info"),
    ],
)
def test_each_error_has_a_remedy_of_its_own_whatever_was_asked(error: ApiError, remedy: str) -> None:
    right = f"get {meta.BACKUP_PLURAL}"
    assert remedy in refused(error, "It", right, "agents").remedy
    assert remedy in unread(error, "It", right, meta.BACKUP_PLURAL).remedy


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no such file"),
        ("", "is empty"),
        ("root:x:0:0:root:/root:/bin/bash", "it is no kubeconfig"),
        ("apiVersion: v1\nkind: Config\n", "current-context"),
    ],
)
def test_a_kubeconfig_that_is_none_is_told_in_words(content: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "config"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CredentialsError, match=said) as told:
        from_kubeconfig(str(path))
    assert str(path) in str(told.value)
    assert ".." not in str(told.value)


def test_a_directory_is_no_kubeconfig(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="Is a directory"):
        from_kubeconfig(str(tmp_path))


def at(server: str, tmp_path: Path) -> str:
    """A kubeconfig for that server."""
    path = tmp_path / "config"
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    cluster, user = {"name": "c", "cluster": {"server": server}}, {"name": "u", "user": {"token": "t"}}
    whole = {"clusters": [cluster], "users": [user], "contexts": [context], "current-context": "c"}
    path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **whole}))
    return str(path)


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ("https://127.0.0.1:1", "ConnectionFailed: no connection to 127.0.0.1:1: Connection refused"),
        ("https://no-such-host.invalid:6443", "ConnectionFailed: no connection to no-such-host.invalid:6443: "),
    ],
)
async def test_a_server_that_is_away_is_told_in_words(server: str, said: str, tmp_path: Path) -> None:
    async with Api(load(at(server, tmp_path))) as api:
        with pytest.raises(ApiError) as told:
            await api.get(SANDBOXES, "alice", "agents")
    assert str(told.value).startswith(said)


def test_what_is_due_of_one_sandbox_is_asked_of_the_cluster(tmp_path: Path) -> None:
    kubeconfig = at("https://127.0.0.1:1", tmp_path)
    found = CliRunner().invoke(cli, ["due", "agents/alice", "--kubeconfig", kubeconfig])
    assert found.exit_code == 4
    assert "ClaudeSandbox agents/alice can't be read: ConnectionFailed" in found.stderr
    assert CliRunner().invoke(cli, ["due", "alice", "./x.json"]).exit_code == 2
