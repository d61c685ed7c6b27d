"""`claude-sandbox check container` and `check host`: as a Docker Engine tells of them now."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

from claude_sandbox.api.status import EvidenceSource
from claude_sandbox.backends.docker.engine.connection.connect import Connection, connect
from claude_sandbox.backends.docker.engine.connection.errors import ConnectError, ConnectErrorReason
from claude_sandbox.backends.docker.engine.engine import Engine
from claude_sandbox.backends.docker.engine.errors import EngineError
from claude_sandbox.backends.docker.evidence.single_container import SandboxOf, Survey, survey
from claude_sandbox.blueprint.model import Identity
from claude_sandbox.cli.check.documents import target_of
from claude_sandbox.cli.check.options import Options
from claude_sandbox.cli.check.reports import Report
from claude_sandbox.cli.local.engine_address import EngineAddress
from claude_sandbox.cli.unreadable import UnreadableError
from claude_sandbox.compliance.evidence.docker_hosts import HostEvidence
from claude_sandbox.compliance.evidence.readings import Reading
from claude_sandbox.compliance.reports import containers as docker
from claude_sandbox.compliance.reports import docker_hosts as host_report
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import CredentialsError, load
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.resources import SANDBOXES
from claude_sandbox.kubernetes_api.unstructured import Object

_AT_ONCE = 4


async def of_containers(names: Sequence[str], options: Options, where: EngineAddress) -> list[Report]:
    """A report for each of the containers named, or for all of the engine's where none is. Raises UnreadableError."""
    async with _connected(where) as connection, _sandboxes(options) as sandbox_of:
        engine = Engine(lambda: connection.api)
        try:
            wanted = list(names) or await _all(engine)
            found = await _surveyed(engine, wanted, options, sandbox_of, local=where.address.scheme == "unix")
        except EngineError as error:
            raise UnreadableError(
                f"{where.endpoint} did not tell of its containers: {error}.", _denied(error)
            ) from None
        finally:
            engine.close()
    for name, one in zip(wanted, found, strict=True):
        # One that is gone since the engine told of it is none of the engine's containers any more.
        if one is None and names:
            raise UnreadableError(
                f"there is no container {name} on {where.endpoint}.",
                "Look for it with `docker ps --all`, or name another engine with --host.",
            )
    return [_report(one) for one in found if one is not None]


async def of_host(where: EngineAddress) -> Report:
    """What an engine says of itself and of its host. Raises UnreadableError."""
    async with _connected(where) as connection:
        try:
            documents = await asyncio.to_thread(connection.documents)
        except ConnectError as error:
            raise _unreadable(error, where) from None
    now = datetime.now(UTC)
    evidence = HostEvidence(
        scheme=where.address.scheme,
        mutual_tls=where.credentials is not None,
        engine=Reading(documents, EvidenceSource.INSPECT, now),
        now=now,
        max_age=timedelta.max,
    )
    identifier = str(documents.info.get("ID") or "")
    target = {"kind": "DockerEngine", "name": str(documents.info.get("Name") or where.endpoint), "id": identifier}
    return Report(target=target, findings=host_report.findings(evidence), evaluated_at=now)


@contextlib.asynccontextmanager
async def _connected(where: EngineAddress) -> AsyncIterator[Connection]:
    try:
        connection = await asyncio.to_thread(connect, where.address, where.credentials)
    except ConnectError as error:
        raise _unreadable(error, where) from None
    with connection:
        yield connection


async def _all(engine: Engine) -> list[str]:
    found = sorted(await engine.containers([]), key=lambda one: (one.get("Names") or [""])[0])
    return [str(one["Id"]) for one in found]


async def _surveyed(
    engine: Engine, names: Sequence[str], options: Options, sandbox_of: SandboxOf, *, local: bool
) -> list[Survey | None]:
    turn = asyncio.Semaphore(_AT_ONCE)

    async def one(name: str) -> Survey | None:
        async with turn:
            return await survey(engine, name, options.standard, options.declared, sandbox_of, local=local)

    return list(await asyncio.gather(*map(one, names)))


def _report(found: Survey) -> Report:
    findings, now = docker.findings(found.evidence), found.evidence.now
    return Report(target=target_of(found.container), findings=findings, evaluated_at=now, note=found.note)


@contextlib.asynccontextmanager
async def _sandboxes(options: Options) -> AsyncIterator[SandboxOf]:
    """How ClaudeSandboxes are read; nobody is asked before a container says that it belongs to one."""
    async with contextlib.AsyncExitStack() as stack:
        connecting: list[asyncio.Task[Api]] = []

        async def api() -> Api:
            credentials = await asyncio.to_thread(load, options.kubeconfig, options.context)
            return await stack.enter_async_context(Api(credentials, attempts=1, timeout=10))

        async def read(identity: Identity) -> Object | str:
            if not connecting:
                connecting.append(asyncio.create_task(api()))
            try:
                return await (await connecting[0]).get(SANDBOXES, identity.name, identity.namespace)
            except (CredentialsError, ApiError) as error:
                return str(error)

        yield read


def _unreadable(error: ConnectError, where: EngineAddress) -> UnreadableError:
    """In the words of someone who has no operator and no Secret."""
    secure = "Name its authority's certificate and your own with --tlsverify, --tlscacert, --tlscert and --tlskey."
    remedies = {
        ConnectErrorReason.UNREACHABLE: "Start the engine, or name another with --host.",
        ConnectErrorReason.DENIED: {
            "unix": "Run it as root, or as a user of the group docker.",
            "tcp": secure,
            "ssh": "Use a key and a user that the host lets in: ssh is asked as you are, with your own configuration.",
        }[where.address.scheme],
        ConnectErrorReason.UNTRUSTED: secure
        if where.address.scheme == "tcp"
        else "Connect once with ssh, and compare its key.",
        ConnectErrorReason.BAD_CREDENTIALS: secure,
        ConnectErrorReason.UNSUPPORTED: (
            "Docker Engine 20.10 and newer can be measured; save what others say for --inspect."
        ),
    }
    return UnreadableError(f"{where.endpoint}: {error}.", remedies[error.reason])


def _denied(error: EngineError) -> str:
    return "Ask for the right to inspect containers, networks and volumes." if error.status == 403 else ""
