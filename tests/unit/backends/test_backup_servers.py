"""Which address of a server elsewhere a backup's helper may reach, and that who chooses a name learns nothing by it."""

import asyncio
import socket
import threading
from ipaddress import ip_network
from typing import Any

import pytest

from claude_sandbox.api.kinds.backups import BackupReason
from claude_sandbox.api.kinds.targets import BackupTarget
from claude_sandbox.backends.backup_servers import Servers, location_of, resolved
from claude_sandbox.backends.backups import NotNowError

OPENED = (ip_network("10.7.0.0/16"),)


def s3(endpoint: str, **more: Any) -> BackupTarget:
    where = {"endpoint": endpoint, "bucket": "abc", **more}
    return BackupTarget.model_validate({"type": "S3", "s3": where, "credentialsSecretRef": {"name": "a"}})


def sftp(**more: Any) -> BackupTarget:
    where = {"host": "backups.example.org", "user": "u", "path": "/srv/a", **more}
    return BackupTarget.model_validate({"type": "SFTP", "sftp": where, "credentialsSecretRef": {"name": "a"}})


def servers(*addresses: str) -> Servers:
    async def resolve(name: str) -> tuple[str, ...]:
        assert name.endswith(".")
        return addresses

    return Servers(OPENED, resolve)


def told(target: BackupTarget, *addresses: str) -> dict[str, Any]:
    found = asyncio.run(servers(*addresses).of(target, "agents"))
    assert found is not None
    return found


def test_what_a_helper_is_told() -> None:
    found = told(s3("https://s3.example.org", prefix="a/b"), "2600::1", "93.184.215.14")
    assert found == {
        "kind": "S3", "host": "s3.example.org", "port": 443, "address": "93.184.215.14", "path": "abc/a/b",
        "region": "us-east-1",
    }  # fmt: skip
    found = told(sftp(port=2222), "10.7.1.1")
    assert (found["address"], found["port"]) == ("10.7.1.1", 2222)
    assert location_of(found) == "sftp://u@backups.example.org:2222//srv/a"
    assert told(s3("https://10.7.1.2:9000"))["address"] == "10.7.1.2"


@pytest.mark.parametrize(
    "addresses",
    [
        (), ("10.8.0.1",), ("127.0.0.1",), ("169.254.169.254",), ("93.184.215.14", "10.96.0.1"), ("::1",),
        ("::ffff:10.8.0.1",), ("fd00:ec2::254",), ("192.168.1.1",),
    ],
)  # fmt: skip
def test_a_name_that_leads_inside_is_refused_in_the_words_of_one_that_leads_nowhere(addresses: Any) -> None:
    with pytest.raises(NotNowError) as refused:
        told(s3("https://s3.example.org"), *addresses)
    assert refused.value.reason is BackupReason.TARGET_NOT_ALLOWED
    with pytest.raises(NotNowError) as nowhere:
        told(s3("https://s3.example.org"))
    assert str(refused.value) == str(nowhere.value)


@pytest.mark.parametrize("address", ["10.8.0.1", "127.0.0.1", "169.254.169.254", "192.168.0.1"])
def test_an_address_inside_is_refused(address: str) -> None:
    for target in (s3(f"https://{address}"), sftp(host=address)):
        with pytest.raises(NotNowError):
            told(target)


async def test_names_that_are_never_answered_take_nobody_elses_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may make backups has a name's server answer never; the event loop's own threads bring keys, and metrics."""
    answer = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer.wait(60) and [])
    looking = [asyncio.create_task(resolved(f"s{number}.example.org.")) for number in range(64)]
    await asyncio.sleep(0.1)
    try:
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "soon"), 5) == "soon"
    finally:
        answer.set()
        await asyncio.gather(*looking)


async def test_a_namespace_has_its_share_of_what_is_looked_up_and_others_have_theirs() -> None:
    answer, asked = asyncio.Event(), list[str]()

    async def resolve(name: str) -> tuple[str, ...]:
        asked.append(name)
        await answer.wait()
        return ("93.184.215.14",)

    found = Servers(resolve=resolve)
    looking = [asyncio.create_task(found.of(sftp(host=f"s{number}.example.org"), "agents")) for number in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(NotNowError) as refused:
        await found.of(sftp(), "agents")
    assert refused.value.reason is BackupReason.HELPER_NOT_STARTED
    other = asyncio.create_task(found.of(sftp(), "others"))
    answer.set()
    assert await other is not None
    await asyncio.gather(*looking)
    assert len(asked) == 5
    assert await found.of(sftp(), "agents") is not None
