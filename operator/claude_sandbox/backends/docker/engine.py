"""One Docker Engine, asynchronously: the SDK's client blocks, so each call runs in one of a few threads, with a bound.

Documents go to the engine and come back as they are; the SDK's own methods would leave fields out (PidsLimit,
NanoCpus) and add others (the proxies of whoever runs the operator).
"""

import asyncio
import io
import json
import tarfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import docker
from docker.errors import DockerException
from docker.transport import UnixHTTPAdapter
from requests import Response
from requests.exceptions import RequestException, Timeout
from urllib3.exceptions import HTTPError

from claude_sandbox.api.mishap import mishap
from claude_sandbox.backends.docker.errors import UNREACHABLE, EngineError
from claude_sandbox.backends.docker.facts import EngineFacts, facts_of
from claude_sandbox.backends.docker.raw import Object
from claude_sandbox.backends.docker.session import Session
from claude_sandbox.backends.docker.ssh import SshAdapter
from claude_sandbox.backends.docker.trouble import UNREADABLE

T = TypeVar("T")

CALL_TIMEOUT = 30.0
"""Seconds that the engine may take over an ordinary call."""
PULL_TIMEOUT = 900.0
THREADS = 8
_UNCHANGED = 304
LARGEST_FILE = 256 * 1024
"""Bytes of what is read out of a container."""


class Engine:
    """An engine. `connected` gives the present connection, in a thread, and raises EngineError where there is none.

    `failed` is told of each call that the engine did not answer, with 0, or answered with a fault of its own (5xx).

    Every method raises EngineError, and nothing else, for what the engine or the way there does.

    What is looked for and not there is None. Containers and networks are named by their identifiers wherever they are
    changed, so that another object that took over a name meanwhile is never meant.
    """

    def __init__(
        self,
        connected: Callable[[], docker.APIClient],
        *,
        threads: int = THREADS,
        timeout: float = CALL_TIMEOUT,
        failed: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._connected = connected
        self._failed = failed
        self._threads = ThreadPoolExecutor(threads, "docker")
        self._timeout = timeout
        self._facts: EngineFacts | None = None

    def close(self) -> None:
        """Give the threads back; calls under way end by their time-outs."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def may_be_local(self) -> bool:
        """Whether it is reached by a socket of this machine, which may lead elsewhere all the same."""
        try:
            connected = self._connected()
        except EngineError:
            return False
        way = connected.get_adapter(connected.base_url)
        # ssh comes as a socket too.
        return isinstance(way, UnixHTTPAdapter) and not isinstance(way, SshAdapter)

    async def facts(self) -> EngineFacts:
        """What the engine can do, as it said when it was last asked."""
        return self._facts or await self.look()

    async def look(self) -> EngineFacts:
        """Ask what the engine can do: it may have been upgraded while it was away."""
        info = await self._json("GET", "/info")
        version = str(self._connected().api_version)
        self._facts = found = await self._run(lambda: facts_of(info, version), self._timeout)
        return found

    async def identifier(self) -> str:
        """The engine's own identifier, asked for now."""
        return str((await self._json("GET", "/info")).get("ID") or "")

    async def container(self, name: str) -> Object | None:
        return await self._found("GET", f"/containers/{name}/json")

    async def containers(self, labels: list[str]) -> list[Object]:
        """Summaries of all containers with these labels, running or not."""
        found: list[Object] = await self._json(
            "GET", "/containers/json", params={"all": "1", "filters": json.dumps({"label": labels})}
        )
        return found

    async def network(self, name: str) -> Object | None:
        """A network with its members. Raises EngineError (400) where several have the name."""
        return await self._found("GET", f"/networks/{name}")

    async def networks(self, labels: list[str] | None = None, name: str | None = None) -> list[Object]:
        """Networks without their members: with these labels, of exactly this name, or all."""
        filters = {**({"label": labels} if labels else {}), **({"name": [name]} if name else {})}
        found: list[Object] = await self._json("GET", "/networks", params={"filters": json.dumps(filters)})
        return [live for live in found if name is None or live["Name"] == name]

    async def volume(self, name: str) -> Object | None:
        return await self._found("GET", f"/volumes/{name}")

    async def volumes(self, labels: list[str] | None = None, called: Iterable[str] = ()) -> list[Object]:
        """Volumes with these labels, or of exactly these names."""
        wanted = list(called)
        # The engine takes a volume whose name contains one of them.
        filters = {**({"label": labels} if labels else {}), **({"name": wanted} if wanted else {})}
        answer = await self._json("GET", "/volumes", params={"filters": json.dumps(filters)})
        found: list[Object] = answer.get("Volumes") or []
        return [live for live in found if not wanted or live["Name"] in wanted]

    async def image(self, reference: str) -> Object | None:
        return await self._found("GET", f"/images/{reference}/json")

    async def session(self, identifier: str) -> Object | None:
        """An exec session of a container."""
        return await self._found("GET", f"/exec/{identifier}/json")

    async def pull(self, reference: str) -> None:
        """Have the engine fetch an image, and wait until it is there."""
        await self._run(lambda: self._pull(reference), PULL_TIMEOUT)

    async def create_container(self, name: str, document: Object) -> str:
        """The new container's identifier."""
        answer = await self._json("POST", "/containers/create", params={"name": name}, body=document)
        return str(answer["Id"])

    async def start(self, identifier: str) -> None:
        await self._json("POST", f"/containers/{identifier}/start")

    async def unpause(self, identifier: str) -> None:
        await self._json("POST", f"/containers/{identifier}/unpause")

    async def stop(self, identifier: str, grace: int) -> None:
        """End a container's processes, by force after `grace` seconds."""
        await self._json("POST", f"/containers/{identifier}/stop", params={"t": str(grace)}, within=grace + 30.0)

    async def rename(self, identifier: str, name: str) -> None:
        await self._json("POST", f"/containers/{identifier}/rename", params={"name": name})

    async def update(self, identifier: str, limits: Object) -> None:
        await self._json("POST", f"/containers/{identifier}/update", body=limits)

    async def remove_container(self, identifier: str) -> None:
        """Remove a container, running or not, with its nameless volumes. One that is gone is removed."""
        try:
            await self._gone("DELETE", f"/containers/{identifier}", params={"force": "1", "v": "1"})
        except EngineError as error:
            if not (error.is_conflict and "already in progress" in error.message):
                raise

    async def create_network(self, document: Object) -> str:
        """The new network's identifier."""
        # Engines before 25.0 allow several networks of one name, unless they are asked to look.
        answer = await self._json("POST", "/networks/create", body={"CheckDuplicate": True, **document})
        return str(answer["Id"])

    async def remove_network(self, identifier: str) -> None:
        await self._gone("DELETE", f"/networks/{identifier}")

    async def connect(self, network: str, container: str) -> None:
        await self._json("POST", f"/networks/{network}/connect", body={"Container": container, "EndpointConfig": {}})

    async def disconnect(self, network: str, container: str) -> None:
        """Take a container off a network, whatever state either is in. One that is not on it is off it."""
        try:
            await self._json("POST", f"/networks/{network}/disconnect", body={"Container": container, "Force": True})
        except EngineError as error:
            if "is not connected to" not in error.message:
                raise

    async def create_volume(self, document: Object) -> Object:
        """The volume of that name: an engine answers with the old one where there is one already."""
        answer: Object = await self._json("POST", "/volumes/create", body=document)
        return answer

    async def remove_volume(self, name: str) -> None:
        await self._gone("DELETE", f"/volumes/{name}")

    async def put_archive(self, identifier: str, path: str, archive: bytes) -> None:
        """Unpack a tar archive in a container, as the engine itself, not as a process of the container."""
        await self._run(
            lambda: self._call("PUT", f"/containers/{identifier}/archive", params={"path": path}, data=archive),
            self._timeout,
        )

    async def read_file(self, identifier: str, path: str) -> bytes | None:
        """A file of a container, read by the engine itself; None where there is none."""
        try:
            return await self._run(lambda: self._read_file(identifier, path), self._timeout)
        except EngineError as error:
            if error.is_not_found:
                return None
            raise

    async def attach(self, identifier: str) -> Session:
        """Standard input and output of a container that is about to be started."""
        return await self._run(lambda: Session(self._attach(identifier), self._run), self._timeout)

    def stream_events(self, filters: dict[str, list[str]], timeout: float) -> Response:
        """The engine's events, as a response whose lines are JSON. Blocks; raises EngineError.

        `timeout`: seconds of silence after which reading fails, so that a dead connection is noticed.
        """
        return self._call("GET", "/events", params={"filters": json.dumps(filters)}, timeout=timeout, stream=True)

    async def _found(self, method: str, path: str) -> Object | None:
        try:
            found: Object = await self._json(method, path)
        except EngineError as error:
            if error.is_not_found:
                return None
            raise
        return found

    async def _gone(self, method: str, path: str, params: dict[str, str] | None = None) -> None:
        try:
            await self._json(method, path, params=params)
        except EngineError as error:
            if not error.is_not_found:
                raise

    async def _json(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        body: Object | None = None,
        within: float | None = None,
    ) -> Any:
        bound = within or self._timeout

        def call() -> Any:
            response = self._call(method, path, params=params, json=body, timeout=bound)
            return response.json() if response.content else {}

        return await self._run(call, bound)

    async def _run(self, call: Callable[[], T], bound: float) -> T:
        """Run what blocks in a thread. The bound is a little longer than that of the connection itself."""
        try:
            done = asyncio.get_running_loop().run_in_executor(self._threads, _mapped, call)
        except RuntimeError:
            # The host was taken out of the operator's care while something was still being done on it.
            raise EngineError(UNREACHABLE, "the connection to the Docker Engine was given up") from None
        try:
            return await asyncio.wait_for(done, bound + 5.0)
        except TimeoutError:
            self._failed(UNREACHABLE)
            raise EngineError(UNREACHABLE, "the Docker Engine did not answer in time") from None
        except EngineError as error:
            if error.is_unreachable or error.status >= 500:
                self._failed(error.status)
            raise

    def _call(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        json: Object | None = None,
        data: bytes | None = None,
        timeout: float | None = None,
        stream: bool = False,
    ) -> Response:
        client = self._connected()
        response = client.request(
            method,
            f"{client.base_url}/v{client.api_version}{path}",
            params=params,
            json=json,
            data=data,
            timeout=timeout or self._timeout,
            stream=stream,
        )
        # A container that is to be started or stopped may be so already.
        if response.status_code >= 300 and response.status_code != _UNCHANGED:
            raise EngineError(response.status_code, _message(response))
        return response

    def _pull(self, reference: str) -> None:
        # The registry's credentials, if any, are those that the SDK found for the operator itself.
        for line in self._connected().pull(reference, stream=True, decode=True):
            if problem := line.get("error"):
                raise EngineError(404, str(problem))

    def _read_file(self, identifier: str, path: str) -> bytes:
        response = self._call("GET", f"/containers/{identifier}/archive", params={"path": path}, stream=True)
        with response:
            content = response.raw.read(LARGEST_FILE + 1024, decode_content=True)
        try:
            with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                member = archive.next()
                extracted = archive.extractfile(member) if member is not None and member.isreg() else None
                return extracted.read() if extracted is not None else b""
        except tarfile.TarError:
            return b""

    def _attach(self, identifier: str) -> Any:
        wanted = {"stdin": 1, "stdout": 1, "stream": 1}
        return self._connected().attach_socket(identifier, params=wanted)


def _mapped(call: Callable[[], T]) -> T:
    """What was asked for, or an EngineError: never with a request in it, whose body may be a key."""
    try:
        return call()
    except EngineError:
        raise
    except Timeout:
        raise EngineError(UNREACHABLE, "the Docker Engine did not answer in time") from None
    except UNREADABLE as error:
        raise EngineError(UNREACHABLE, f"the Docker Engine's answer can't be used: {mishap(error)}") from None
    except (DockerException, RequestException, HTTPError, OSError, EOFError, ValueError) as error:
        status = getattr(getattr(error, "response", None), "status_code", UNREACHABLE)
        if status:
            raise EngineError(status, str(getattr(error, "explanation", "") or "no reason given")) from None
        raise EngineError(UNREACHABLE, f"the Docker Engine can't be reached ({type(error).__name__})") from None


def _message(response: Response) -> str:
    try:
        body = response.json()
    except ValueError:
        return f"the Docker Engine answered HTTP {response.status_code} without a reason"
    message = body.get("message") if isinstance(body, dict) else None
    return str(message or f"the Docker Engine answered HTTP {response.status_code} without a reason").strip()


def archive_of(entries: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """A tar archive for `put_archive`."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for info, content in entries:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()
