"""Sessions by a real API server: its proxy of the operator's Service, its rights, what it stores and refuses.

What runs are commands of this machine, so that no engine is needed.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from docker_fleet import prepare
from pydantic import ValidationError
from session_lab import SessionLab
from session_place import free_port, own_address, person, serve, unserve

from claude_sandbox.api.kinds.sessions import ClaudeSandboxSessionSpec, Command
from claude_sandbox.controller.sessions.admission import Admission
from claude_sandbox.controller.sessions.server import SessionServer
from claude_sandbox.controller.sessions.tidying import forgetting, tidy
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import from_kubeconfig
from claude_sandbox.kubernetes_api.errors import UNTRUSTED_SERVER, ApiError
from claude_sandbox.kubernetes_api.operator_sessions import OperatorSession, SessionRefused, open_session
from claude_sandbox.kubernetes_api.pod_exec import Channel
from claude_sandbox.kubernetes_api.resources import NAMESPACES, SESSIONS
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.pki.certificates import KeyPair, Subject, issue

pytestmark = pytest.mark.controlplane

OPERATORS, MINE, THEIRS = "sessions-operators", "sessions-mine", "sessions-theirs"


@dataclass
class Place:
    """Two replicas of the operator's port, of which the second leads; sandbox `alice` in MINE and in THEIRS."""

    api: Api
    cluster: Cluster
    lab: SessionLab
    service: str
    directory: Path

    async def someone(self, name: str, *spaces: str, reaches: bool = True) -> Api:
        reached = [OPERATORS] if reaches else []
        kubeconfig = await person(self.api, self.cluster, self.directory, name, works_in=spaces, reaches=reached)
        return Api(from_kubeconfig(kubeconfig), attempts=1)

    async def open(self, by: Api, space: str = MINE, *command: str, uid: str = "u-mine") -> OperatorSession:
        what = Command(command=list(command or ("sh", "-c", "cat; echo err >&2; exit 7")), stdin=True)
        return await open_session(by, self.service, space, "alice", uid, what)


@pytest.fixture
async def place(control_plane: Cluster, tmp_path: Path) -> AsyncIterator[Place]:
    credentials = from_kubeconfig(str(control_plane.kubeconfig))
    await prepare(credentials)
    address = own_address()
    ports = [free_port(address), free_port(address)]
    lab = SessionLab(tmp_path)
    lab.add(MINE, uid="u-mine")
    lab.add(THEIRS, uid="u-theirs")
    async with Api(credentials) as api:
        for space in (MINE, THEIRS):
            await api.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
        service = await serve(api, OPERATORS, address, ports)
        servers = [
            SessionServer(
                Admission(api, lab.sandboxes), lab.run, leads, lambda *_: None, forgetting(api), host=address, port=port
            )
            for port, leads in zip(ports, (lambda: False, lab.may_lead), strict=True)
        ]
        async with servers[0], servers[1]:
            yield Place(api, control_plane, lab, service, tmp_path)
        for session in (await api.list(SESSIONS)).items:
            await api.delete(SESSIONS, session["metadata"]["name"], session["metadata"]["namespace"])
        await unserve(api, OPERATORS)


async def test_a_session_goes_by_the_proxy_to_the_replica_that_leads_with_no_more_rights_than_the_roles_give(
    place: Place,
) -> None:
    async with await place.someone("alice", MINE) as alice:
        for _ in range(6):
            session = await place.open(alice)
            await session.write(b"x" * 300_000)
            await session.end_input()
            found = [part async for part in session.output()]
            assert b"".join(data for channel, data in found if channel is Channel.STDOUT) == b"x" * 300_000
            assert b"".join(data for channel, data in found if channel is Channel.STDERR) == b"err\n"
            assert session.exit_code == 7
            await session.close()
    async with asyncio.timeout(20):
        while (await place.api.list(SESSIONS, MINE)).items:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_who_may_not_make_sessions_in_a_namespace_gets_into_none_of_its_sandboxes(place: Place) -> None:
    async with await place.someone("bob", THEIRS) as bob:
        with pytest.raises(ApiError) as refused:
            await place.open(bob, MINE)
        assert refused.value.is_forbidden
        # One of his own that names the other's sandbox by its UID.
        with pytest.raises(SessionRefused):
            await place.open(bob, THEIRS, uid="u-mine")
        assert place.lab.ran == []
        await (await place.open(bob, THEIRS, "true", uid="u-theirs")).close()
    async with await place.someone("carol", MINE, reaches=False) as carol:
        with pytest.raises(ApiError) as refused:
            await place.open(carol)
        assert refused.value.is_forbidden
        assert "services" in refused.value.message
        # Nothing else of the operator's namespace is reached by the Role.
    async with await place.someone("alice", MINE) as alice:
        with pytest.raises(ApiError) as refused:
            await alice.get_path(f"/api/v1/namespaces/{OPERATORS}/services/http:claude-sandbox-sessions:8443/proxy/")
        assert refused.value.is_forbidden


async def test_what_a_session_says_is_bounded_and_can_not_be_changed(place: Place) -> None:
    digest = hashlib.sha256(b"k").hexdigest()
    good = {"sandbox": "alice", "sandboxUid": "u-mine", "keyDigest": digest}

    def session(name: str, **changed: Any) -> dict[str, Any]:
        spec = {**good, **changed}
        return {
            "apiVersion": SESSIONS.api_version, "kind": SESSIONS.kind, "metadata": {"name": name}, "spec": spec,
            "status": {"openedAt": "2026-01-01T00:00:00Z"},
        }  # fmt: skip

    live = await place.api.create(SESSIONS, session("one"), MINE)
    # Only the operator says what became of it.
    assert live["status"] == {"observedGeneration": -1}
    for changed in ({"sandbox": "bob"}, {"sandboxUid": "u-theirs"}, {"keyDigest": "0" * 64}):
        with pytest.raises(ApiError, match="can't be changed"):
            await place.api.patch(SESSIONS, "one", MINE, {"spec": changed})
    for number, bad in enumerate(
        (
            {"sandbox": "../alice"},
            {"sandbox": "a" * 46},
            {"sandboxUid": ""},
            {"keyDigest": "k"},
            {"keyDigest": "G" * 64},
        )
    ):
        with pytest.raises(ApiError) as refused:
            await place.api.create(SESSIONS, session(f"bad-{number}", **bad), MINE)
        assert refused.value.is_invalid
        with pytest.raises(ValidationError):
            ClaudeSandboxSessionSpec.model_validate(good | bad)
    assert ClaudeSandboxSessionSpec.model_validate(good)


async def test_what_nobody_used_is_deleted_and_what_is_open_or_new_is_not(place: Place) -> None:
    spec = {"sandbox": "alice", "sandboxUid": "u-mine", "keyDigest": "0" * 64}
    for name in ("left", "open"):
        body = {
            "apiVersion": SESSIONS.api_version, "kind": SESSIONS.kind, "metadata": {"name": name}, "spec": spec,
        }  # fmt: skip
        await place.api.create(SESSIONS, body, MINE)
    uid = (await place.api.get(SESSIONS, "open", MINE))["metadata"]["uid"]
    now = datetime.now(UTC)
    assert await tidy(place.api, MINE, lambda: {uid}, now) == 0
    assert await tidy(place.api, MINE, lambda: {uid}, now + timedelta(minutes=3)) == 1
    assert [one["metadata"]["name"] for one in (await place.api.list(SESSIONS, MINE)).items] == ["open"]


async def test_without_a_proxy_only_who_the_api_servers_authority_vouches_for_is_told_the_secret(place: Place) -> None:
    """On a machine without pods. What is not vouched for could be anybody who listens there."""
    pki = place.cluster.kubeconfig.parent / "pki"
    authority = KeyPair((pki / "ca.key").read_bytes(), (pki / "ca.crt").read_bytes())
    subject = Subject("claude-sandbox-sessions", server=True, client=False, names=("127.0.0.1",))
    pair = issue(authority, subject, datetime.now(UTC))
    (place.directory / "sessions.crt").write_bytes(pair.certificate)
    (place.directory / "sessions.key").write_bytes(pair.key)
    vouched = (str(place.directory / "sessions.crt"), str(place.directory / "sessions.key"))
    async with await place.someone("alice", MINE, reaches=False) as alice:
        for certificate in (vouched, None):
            server = SessionServer(
                Admission(place.api, place.lab.sandboxes), place.lab.run, place.lab.may_lead, lambda *_: None,
                forgetting(place.api), host="127.0.0.1", port=0, certificate=certificate,
            )  # fmt: skip
            async with server:
                opened = open_session(
                    alice, f"https://127.0.0.1:{server.port}", MINE, "alice", "u-mine", Command(command=["true"])
                )
                if certificate is None:
                    with pytest.raises(ApiError) as refused:
                        await opened
                    assert refused.value.reason == UNTRUSTED_SERVER
                    continue
                session = await opened
                assert [part async for part in session.output()] == []
                assert session.exit_code == 0
                await session.close()
    assert len(place.lab.ran) == 1
