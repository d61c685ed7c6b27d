"""One Docker Engine, asynchronously: the calls of its API that sandboxes need.

Theory of operation. Documents go to the engine and come back as they are; the SDK's own methods would leave fields out
(PidsLimit, NanoCpus) and add others (the proxies of whoever runs the operator). It holds what the engine said it can
do, until it is asked anew (`look`, whenever its events are followed anew: it may have been upgraded), and the threads
of `transport`. A method is one call, so nothing is half-done in here: what is several calls is `steps/`. Where nobody
knows whether a call was carried out, its error says so (`is_unreachable`).

Use it from one event loop; what streams (`stream_events`, `stream_log`) blocks, and is for a thread of its own.
"""

import base64
import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar

import docker
from docker.transport import UnixHTTPAdapter
from requests import Response

from claude_sandbox.api.references import Reference
from claude_sandbox.backends.docker.engine.archives import first_file
from claude_sandbox.backends.docker.engine.attach import Session
from claude_sandbox.backends.docker.engine.capabilities import EngineCapabilities, capabilities_of
from claude_sandbox.backends.docker.engine.client import document, lines
from claude_sandbox.backends.docker.engine.connection.ssh import SshAdapter
from claude_sandbox.backends.docker.engine.documents import Object
from claude_sandbox.backends.docker.engine.errors import UNREACHABLE, EngineError
from claude_sandbox.backends.docker.engine.frames import unframed
from claude_sandbox.backends.docker.engine.threads import ThreadPools
from claude_sandbox.backends.docker.engine.transport import CALL_TIMEOUT, LONGEST_MESSAGE, Transport

T = TypeVar("T")

PULL_TIMEOUT = 900.0
"""Seconds that a pull may take altogether."""
PULL_SILENCE = 300.0
"""Seconds in which an engine tells nothing of a pull: the checksum of a large layer takes minutes."""
LARGEST_FILE = 256 * 1024
"""Bytes of what is read out of a container."""


def _no_one(_: object) -> None:
    pass


class Engine:
    """An engine. `connected`, `failed` and `timely` are those of `Transport`.

    Every method raises EngineError, and nothing else, for what the engine or the way there does.

    What is looked for and not there is None. Containers and networks are named by their identifiers wherever they are
    changed, so that another object that took over a name meanwhile is never meant.
    """

    def __init__(
        self,
        connected: Callable[[], docker.APIClient],
        *,
        pools: ThreadPools | None = None,
        timeout: float = CALL_TIMEOUT,
        failed: Callable[[int], None] = lambda _: None,
        timely: Callable[[str, bool], None] = lambda _kind, _answered: None,
    ) -> None:
        self._pools = pools or ThreadPools()
        self._transport = Transport(connected, self._pools, timeout, failed, timely)
        self._capabilities: EngineCapabilities | None = None
        self.enforces_sizes: bool | None = None
        """Whether it enforces sizes of volumes, as the last that was made showed; None: not tried since it was asked
        what it can do, since it may have been moved to another file system."""

    def close(self) -> None:
        """Give the threads back; calls under way end by their time-outs."""
        self._transport.close()

    @property
    def may_be_local(self) -> bool:
        """Whether it is reached by a socket of this machine, which may lead elsewhere all the same."""
        try:
            connected = self._transport.connected()
        except EngineError:
            return False
        way = connected.get_adapter(connected.base_url)
        # ssh comes as a socket too.
        return isinstance(way, UnixHTTPAdapter) and not isinstance(way, SshAdapter)

    async def capabilities(self) -> EngineCapabilities:
        """What the engine can do, as it said when it was last asked."""
        return self._capabilities or await self.look()

    async def look(self) -> EngineCapabilities:
        """Ask what the engine can do: it may have been upgraded while it was away."""
        info = await self._transport.json("GET", "/info")
        self.enforces_sizes = None
        version = str(self._transport.connected().api_version)
        self._capabilities = found = await self._transport.run(
            lambda: capabilities_of(info, version), self._transport.timeout
        )
        return found

    async def identifier(self) -> str:
        """The engine's own identifier, asked for now."""
        return str((await self._transport.json("GET", "/info")).get("ID") or "")

    async def container(self, name: str) -> Object | None:
        return await self._transport.found("GET", f"/containers/{name}/json")

    async def containers(self, labels: list[str]) -> list[Object]:
        """Summaries of all containers with these labels, running or not."""
        found: list[Object] = await self._transport.json(
            "GET", "/containers/json", params={"all": "1", "filters": json.dumps({"label": labels})}
        )
        return found

    async def containers_with(self, volume: str) -> list[Object]:
        """Summaries of all containers that have a volume, running or not."""
        found: list[Object] = await self._transport.json(
            "GET", "/containers/json", params={"all": "1", "filters": json.dumps({"volume": [volume]})}
        )
        return found

    async def network(self, name: str) -> Object | None:
        """A network with its members. Raises EngineError (400) where several have the name."""
        return await self._transport.found("GET", f"/networks/{name}")

    async def networks(self, labels: list[str] | None = None, name: str | None = None) -> list[Object]:
        """Networks without their members: with these labels, of exactly this name, or all."""
        filters = {**({"label": labels} if labels else {}), **({"name": [name]} if name else {})}
        found: list[Object] = await self._transport.json("GET", "/networks", params={"filters": json.dumps(filters)})
        return [live for live in found if name is None or live["Name"] == name]

    async def volume(self, name: str) -> Object | None:
        return await self._transport.found("GET", f"/volumes/{name}")

    async def volumes(
        self, labels: list[str] | None = None, called: Iterable[str] = (), beginning: str = ""
    ) -> list[Object]:
        """Volumes with these labels, or of exactly these names, or whose names begin so."""
        wanted = [*called, *filter(None, [beginning])]
        # The engine takes a volume whose name contains one of them.
        filters = {**({"label": labels} if labels else {}), **({"name": wanted} if wanted else {})}
        answer = await self._transport.json("GET", "/volumes", params={"filters": json.dumps(filters)})
        found: list[Object] = answer.get("Volumes") or []
        begins = (beginning,) if beginning else ()
        return [live for live in found if not wanted or live["Name"] in wanted or live["Name"].startswith(begins)]

    async def image(self, reference: str) -> Object | None:
        return await self._transport.found("GET", f"/images/{reference}/json")

    async def session(self, identifier: str) -> Object | None:
        """An exec session of a container."""
        return await self._transport.found("GET", f"/exec/{identifier}/json")

    async def users_in(self, identifier: str) -> dict[int, str]:
        """The users of a container's processes, as the engine's host numbers both."""
        return await self._of_processes(identifier, "uid", str)

    async def parents_in(self, identifier: str) -> dict[int, int]:
        """The parents of a container's processes, as the engine's host numbers them."""
        return await self._of_processes(identifier, "ppid", int)

    async def pull(
        self, image: Reference, login: Object | None = None, told: Callable[[Object], None] = _no_one
    ) -> None:
        """Have the engine fetch an image, and wait until it is there.

        `login`: as the Engine API's X-Registry-Auth; None: as anybody. `told` gets what the engine tells of it, in
        another thread.
        """
        await self._transport.run(lambda: self._pull(image, login or {}, told), PULL_TIMEOUT, self._pools.pull)

    async def images(self) -> list[Object]:
        """Summaries of all images, each with all of its names: filtered by one, an engine leaves out the others."""
        found: list[Object] = await self._transport.json("GET", "/images/json")
        return found

    async def tag(self, image: str, repository: str, tag: str) -> None:
        """Give an image one more name."""
        await self._transport.json("POST", f"/images/{image}/tag", params={"repo": repository, "tag": tag})

    async def remove_image(self, name: str) -> None:
        """Take a name off an image; with its last name the image goes, unless a container is of it (409)."""
        await self._transport.gone("DELETE", f"/images/{name}")

    async def create_container(self, name: str, document: Object) -> str:
        """The new container's identifier."""
        answer = await self._transport.json(
            "POST", "/containers/create", params={"name": name}, body=document, sized=True
        )
        return str(answer["Id"])

    async def start(self, identifier: str) -> None:
        await self._transport.json("POST", f"/containers/{identifier}/start")

    async def pause(self, identifier: str) -> None:
        """Freeze a container's processes."""
        await self._transport.json("POST", f"/containers/{identifier}/pause")

    async def unpause(self, identifier: str) -> None:
        await self._transport.json("POST", f"/containers/{identifier}/unpause")

    async def stop(self, identifier: str, grace: int) -> None:
        """End a container's processes, by force after `grace` seconds."""
        await self._transport.json(
            "POST", f"/containers/{identifier}/stop", params={"t": str(grace)}, within=grace + 30.0, sized=True
        )

    async def checkpoint(self, identifier: str, name: str, directory: str, within: float) -> None:
        """Write a container's memory into a directory of the engine's machine; the container is as it was."""
        body = {"CheckpointID": name, "CheckpointDir": directory, "Exit": False}
        await self._transport.json(
            "POST", f"/containers/{identifier}/checkpoints", body=body, within=within, sized=True
        )

    async def ended(self, identifier: str, within: float) -> int:
        """The exit code of a container that is going to end, once it has."""
        answer = await self._transport.json("POST", f"/containers/{identifier}/wait", within=within, sized=True)
        return int(answer["StatusCode"])

    async def rename(self, identifier: str, name: str) -> None:
        await self._transport.json("POST", f"/containers/{identifier}/rename", params={"name": name})

    async def update(self, identifier: str, limits: Object) -> None:
        await self._transport.json("POST", f"/containers/{identifier}/update", body=limits)

    async def remove_container(self, identifier: str) -> None:
        """Remove a container, running or not, with its nameless volumes. One that is gone is removed."""
        try:
            await self._transport.gone("DELETE", f"/containers/{identifier}", params={"force": "1", "v": "1"})
        except EngineError as error:
            # Another removal of it is under way: an engine's own (AutoRemove), or an earlier try of ours.
            if not (error.is_conflict and "already in progress" in error.message):
                raise

    async def create_network(self, document: Object) -> str:
        """The new network's identifier."""
        # Engines before 25.0 allow several networks of one name, unless they are asked to look.
        answer = await self._transport.json("POST", "/networks/create", body={"CheckDuplicate": True, **document})
        return str(answer["Id"])

    async def remove_network(self, identifier: str) -> None:
        await self._transport.gone("DELETE", f"/networks/{identifier}")

    async def connect(self, network: str, container: str, aliases: Collection[str] = ()) -> None:
        """Put a container on a network, where it is also found by the aliases."""
        await self._transport.json(
            "POST",
            f"/networks/{network}/connect",
            body={"Container": container, "EndpointConfig": {"Aliases": list(aliases)} if aliases else {}},
        )

    async def disconnect(self, network: str, container: str) -> None:
        """Take a container off a network, whatever state either is in. One that is not on it is off it."""
        try:
            await self._transport.json(
                "POST", f"/networks/{network}/disconnect", body={"Container": container, "Force": True}
            )
        except EngineError as error:
            if "is not connected to" not in error.message:
                raise

    async def create_volume(self, document: Object) -> Object:
        """The volume of that name: an engine answers with the old one where there is one already."""
        answer: Object = await self._transport.json("POST", "/volumes/create", body=document)
        return answer

    async def remove_volume(self, name: str) -> None:
        await self._transport.gone("DELETE", f"/volumes/{name}")

    async def put_archive(self, identifier: str, path: str, archive: bytes) -> None:
        """Unpack a tar archive in a container, as the engine itself, not as a process of the container."""
        await self._transport.run(
            lambda: self._transport.call(
                "PUT", f"/containers/{identifier}/archive", params={"path": path}, data=archive
            ),
            self._transport.timeout,
        )

    async def read_file(self, identifier: str, path: str) -> bytes | None:
        """A file of a container, read by the engine itself; None where there is none."""
        try:
            return await self._transport.run(lambda: self._read_file(identifier, path), self._transport.timeout)
        except EngineError as error:
            if error.is_not_found:
                return None
            raise

    async def last_words(self, identifier: str, lines: int) -> bytes:
        """The last lines of what a container has written to its standard output; nothing where it is gone."""
        try:
            return await self._transport.run(lambda: self._last_words(identifier, lines), self._transport.timeout)
        except EngineError as error:
            if error.is_not_found:
                return b""
            raise

    async def content(self, path: str, params: Mapping[str, str], most: int) -> bytes:
        """What the engine answers, as it is, and no more than so many bytes of it."""
        return await self._transport.run(lambda: self._content(path, params, most), self._transport.timeout)

    async def events_of(self, label: str, most: int = 1 << 20) -> bytes:
        """What the engine remembers to have told of what carries the label, as lines of JSON."""
        # An end that is there already: it tells what it remembers, and nothing of what is to come. To the fraction of a
        # second, else what has just been done to it is left out.
        until = {"since": "0", "until": f"{time.time():.6f}", "filters": json.dumps({"label": [label]})}
        return await self.content("/events", until, most)

    async def attach(self, identifier: str) -> Session:
        """Standard input and output of a container that is about to be started."""
        return await self._transport.run(
            lambda: Session(self._attach(identifier), self._transport.run), self._transport.timeout
        )

    def stream_events(self, filters: dict[str, list[str]], timeout: float) -> Response:
        """The engine's events, as a response whose lines are JSON. Blocks; raises EngineError.

        `timeout`: seconds of silence after which reading fails, so that a dead connection is noticed.
        """
        return self._transport.call(
            "GET", "/events", params={"filters": json.dumps(filters)}, timeout=timeout, stream=True
        )

    def stream_log(
        self,
        identifier: str,
        since: float | None,
        timeout: float,
        *,
        follow: bool,
        more: Mapping[str, str] | None = None,
    ) -> Response:
        """What a container has written to its standard output, in the framing of the engine's attached streams.

        `more`: of the call's other parameters.
        `since`: seconds since 1970. `timeout`: as of `stream_events`; where one follows, nothing is told for as long as
        nothing is written. Blocks; raises EngineError.
        """
        begin = {} if since is None else {"since": f"{since:.3f}"}
        params = {"stdout": "1", "follow": str(int(follow)), **begin, **(more or {})}
        return self._transport.call(
            "GET", f"/containers/{identifier}/logs", params=params, timeout=timeout, stream=True
        )

    async def _of_processes(self, identifier: str, column: str, read: Callable[[str], T]) -> dict[int, T]:
        told = await self._transport.json(
            "GET", f"/containers/{identifier}/top", params={"ps_args": f"-eo pid,{column}"}
        )
        rows = told.get("Processes") if isinstance(told, dict) else None
        try:
            return {int(pid): read(str(value)) for pid, value in (row[:2] for row in rows or ())}
        except (TypeError, ValueError):
            raise EngineError(UNREACHABLE, "the Docker Engine tells of processes otherwise than it should") from None

    def _pull(self, image: Reference, login: Object, told: Callable[[Object], None]) -> None:
        response = self._transport.call(
            "POST",
            "/images/create",
            params={"fromImage": image.repository, "tag": image.digest or image.tag or "latest"},
            # Said in any case: what the operator's own user may have for a registry is nobody's.
            headers={"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(login).encode()).decode()},
            timeout=PULL_SILENCE,
            stream=True,
        )
        with response:
            for line in lines(response):
                said = document(line)
                if isinstance(said, dict):
                    if problem := said.get("error"):
                        # The answer began with 200 when the pull did; what went wrong later comes in a line, and has no
                        # status.
                        raise EngineError(404, str(problem)[:LONGEST_MESSAGE])
                    told(said)

    def _read_file(self, identifier: str, path: str) -> bytes:
        response = self._transport.call("GET", f"/containers/{identifier}/archive", params={"path": path}, stream=True)
        with response:
            # The archive's header, and what fills up its last block, come on top of the file. Who has a larger file is
            # read in part, which no archive allows: as if it were empty.
            content = response.raw.read(LARGEST_FILE + 1024, decode_content=True)
        return first_file(content)

    def _last_words(self, identifier: str, lines: int) -> bytes:
        response = self.stream_log(identifier, None, CALL_TIMEOUT, follow=False, more={"tail": str(lines)})
        with response:
            return unframed(response.raw.read(LARGEST_FILE, decode_content=True))

    def _content(self, path: str, params: Mapping[str, str], most: int) -> bytes:
        with self._transport.call("GET", path, params=dict(params), stream=True) as response:
            found: bytes = response.raw.read(most, decode_content=True)
        return found

    def _attach(self, identifier: str) -> Any:
        wanted = {"stdin": 1, "stdout": 1, "stream": 1}
        return self._transport.connected().attach_socket(identifier, params=wanted)
