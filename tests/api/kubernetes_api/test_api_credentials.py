"""Credentials from a kubeconfig, a plugin and a pod's files, accepted by a real API server."""

import asyncio
import json
import stat
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from claude_sandbox.kubernetes_api import credentials as c
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import Credentials, CredentialsError, from_kubeconfig, from_pod
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import SERVICE_ACCOUNTS, Resource
from claude_sandbox.localcluster.cluster import Cluster

pytestmark = pytest.mark.controlplane

SELF_REVIEWS = Resource("authentication.k8s.io", "v1", "selfsubjectreviews", False, "SelfSubjectReview")


async def who_am_i(credentials: Credentials) -> str:
    async with Api(credentials) as api:
        answer = await api.create(SELF_REVIEWS, {"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"})
    name: str = answer["status"]["userInfo"]["username"]
    return name


@pytest.fixture
async def token(api: Api, namespace: str) -> str:
    await api.create(SERVICE_ACCOUNTS, {"metadata": {"name": "a"}}, namespace)
    request = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {}}
    answer = await api.create(SERVICE_ACCOUNTS, request, namespace, name="a", subresource="token")
    value: str = answer["status"]["token"]
    return value


@pytest.fixture
def kubeconfig(control_plane: Cluster) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(control_plane.kubeconfig.read_text())
    return config


def pod_files(directory: Path, kubeconfig: dict[str, Any], token: str) -> dict[str, str]:
    import base64
    from urllib.parse import urlsplit

    cluster = kubeconfig["clusters"][0]["cluster"]
    ca = cluster.get("certificate-authority-data")
    text = base64.b64decode(ca).decode() if ca else Path(cluster["certificate-authority"]).read_text()
    (directory / "ca.crt").write_text(text)
    (directory / "token").write_text(token + "\n")
    (directory / "namespace").write_text("agents\n")
    server = urlsplit(cluster["server"])
    return {"KUBERNETES_SERVICE_HOST": str(server.hostname), "KUBERNETES_SERVICE_PORT": str(server.port)}


async def test_a_kubeconfig_with_a_client_certificate(control_plane: Cluster) -> None:
    credentials = from_kubeconfig(str(control_plane.kubeconfig))
    assert await who_am_i(credentials)
    assert "PRIVATE" not in repr(credentials)


async def test_a_pods_token_is_read_again(
    tmp_path: Path, kubeconfig: dict[str, Any], namespace: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = pod_files(tmp_path, kubeconfig, token)
    credentials = from_pod(tmp_path, environ)
    assert credentials.namespace == "agents"
    assert await who_am_i(credentials) == f"system:serviceaccount:{namespace}:a"
    assert token not in repr(credentials)

    (tmp_path / "token").write_text("a new one")
    assert credentials.authorization.fresh()
    later = time.monotonic() + 46
    monkeypatch.setattr(c.time, "monotonic", lambda: later)
    assert not credentials.authorization.fresh()
    assert await credentials.authorization.renew() == "bearer a new one"


async def test_a_token_that_is_refused_is_read_again_at_once_and_only_once(
    tmp_path: Path, kubeconfig: dict[str, Any], namespace: str, token: str
) -> None:
    credentials = from_pod(tmp_path, pod_files(tmp_path, kubeconfig, "outdated"))
    (tmp_path / "token").write_text(token)
    counted: list[str] = []
    async with Api(credentials, observer=lambda _, code, __: counted.append(code)) as api:
        results = await asyncio.gather(
            *(api.get(SERVICE_ACCOUNTS, "a", namespace) for _ in range(5)), return_exceptions=True
        )
        # RBAC refuses what authentication let through.
        assert all(isinstance(e, ApiError) and e.status == 403 for e in results)
        with pytest.raises(ApiError) as error:
            await api.get(SERVICE_ACCOUNTS, "a", namespace)
        assert error.value.is_permission_denied


async def test_a_token_that_stays_refused_is_an_error(
    tmp_path: Path, kubeconfig: dict[str, Any], namespace: str
) -> None:
    credentials = from_pod(tmp_path, pod_files(tmp_path, kubeconfig, "nonsense"))
    async with Api(credentials) as api:
        for _ in range(2):
            with pytest.raises(ApiError) as error:
                await api.get(SERVICE_ACCOUNTS, "a", namespace)
            assert error.value.is_unauthorized


async def test_a_file_that_vanishes_leaves_the_old_token_in_use(
    tmp_path: Path, kubeconfig: dict[str, Any], namespace: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = from_pod(tmp_path, pod_files(tmp_path, kubeconfig, token))
    (tmp_path / "token").unlink()
    later = time.monotonic() + 46
    monkeypatch.setattr(c.time, "monotonic", lambda: later)
    assert await who_am_i(credentials) == f"system:serviceaccount:{namespace}:a"


def plugin(tmp_path: Path, kubeconfig: dict[str, Any], script: str) -> Path:
    program = tmp_path / "plugin"
    program.write_text(f"#!/bin/sh\necho run >> {tmp_path}/runs\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(program), "args": []}}
    config = kubeconfig | {"users": [{"name": kubeconfig["users"][0]["name"], "user": user}]}
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


def credential(**status: str) -> str:
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    return f"cat <<'EOF'\n{json.dumps(answer)}\nEOF"


async def test_a_plugin_gives_the_token_and_runs_again_when_it_has_expired(
    tmp_path: Path, kubeconfig: dict[str, Any], namespace: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = credential(token=token, expirationTimestamp="2020-01-01T00:00:00Z")
    credentials = from_kubeconfig(str(plugin(tmp_path, kubeconfig, script)))
    assert await who_am_i(credentials) == f"system:serviceaccount:{namespace}:a"
    before = (tmp_path / "runs").read_text().count("run")
    later = time.monotonic() + 46
    monkeypatch.setattr(c.time, "monotonic", lambda: later)
    await credentials.authorization.renew()
    assert (tmp_path / "runs").read_text().count("run") == before + 1


async def test_a_plugin_that_fails_is_an_error_and_not_an_anonymous_user(
    tmp_path: Path, kubeconfig: dict[str, Any]
) -> None:
    path = plugin(tmp_path, kubeconfig, "echo login expired >&2; exit 1")
    with pytest.raises(CredentialsError, match=r"gives no credential.*Log in again"):
        from_kubeconfig(str(path))


async def test_what_is_missing_is_named_with_the_remedy(tmp_path: Path, control_plane: Cluster) -> None:
    with pytest.raises(CredentialsError, match="nowhere"):
        from_kubeconfig(str(tmp_path / "nowhere"))
    with pytest.raises(CredentialsError, match=r"context other.*other"):
        from_kubeconfig(str(control_plane.kubeconfig), "other")
    with pytest.raises(CredentialsError, match="automountServiceAccountToken"):
        from_pod(tmp_path, {})


def test_no_key_of_the_kubeconfig_stays_on_the_disk(
    tmp_path: Path, control_plane: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    from_kubeconfig(str(control_plane.kubeconfig))
    assert list(tmp_path.iterdir()) == []
