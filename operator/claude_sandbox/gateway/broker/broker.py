"""The broker: takes requests for the model from sandboxes, puts the real credential in, and passes them on.

Holds nothing of a request but what is under way: its `Request`, of which one line of the audit is made at its end,
however it ends, and whose reservation is settled then, once. Answers are passed on as they come: what the sandbox does
not read is not read from the provider either, and a sandbox that goes away ends the request at the provider.
"""

import asyncio
import fnmatch
import uuid
from collections.abc import Callable
from contextlib import suppress

import aiohttp
from aiohttp import web
from yarl import URL

from claude_sandbox.gateway.audit import Audit, plain
from claude_sandbox.gateway.broker.bodies import Body
from claude_sandbox.gateway.broker.exchange import Request
from claude_sandbox.gateway.broker.provider import APIError, back, check_headers, invalid, onward, route
from claude_sandbox.gateway.broker.reachability import Reachability
from claude_sandbox.gateway.broker.recent import RecentRequests, answers
from claude_sandbox.gateway.broker.upstream import Upstreams
from claude_sandbox.gateway.broker.usage import StreamMeter, WholeMeter
from claude_sandbox.gateway.budget.bookkeeper import Bookkeeper
from claude_sandbox.gateway.budget.ledger import BudgetSpentError
from claude_sandbox.gateway.budget.store import StoreError
from claude_sandbox.gateway.config.config import Sandbox
from claude_sandbox.gateway.config.follow import Credential, Live
from claude_sandbox.gateway.http.json_scan import Scanned
from claude_sandbox.gateway.identity import IdentityError, presented_to_broker
from claude_sandbox.gateway.shares import Rate, Slots


class Broker:
    """Answers requests. `live` gives what holds at this moment."""

    def __init__(self, live: Callable[[], Live], audit: Audit, books: Bookkeeper, upstreams: Upstreams) -> None:
        self._live = live
        self.recent = RecentRequests()
        self.reachability = Reachability(lambda: live().config.provider, upstreams)
        self._audit = audit
        self._books = books
        self._upstreams = upstreams
        self._slots = Slots(1, 1)
        self._rates: dict[str, Rate] = {}
        self._open: set[Request] = set()
        self.draining = False
        self.changed()

    @property
    def open(self) -> int:
        """Requests at this moment."""
        return len(self._open)

    def changed(self) -> None:
        """Take the limits as they are now; end what sandboxes have under way that are no longer there."""
        live = self._live()
        limits = live.config.limits
        self._slots.limit(limits.requests, limits.requests_each, len(live.sandboxes))
        self.recent.keep(live.sandboxes)
        self.reachability.keep(live.sandboxes)
        self._rates = {
            uid: rate
            for uid, rate in self._rates.items()
            if uid in live.sandboxes and rate.per_minute == limits.requests_per_minute
        }
        for one in list(self._open):
            if one.sandbox is not None and one.sandbox.uid not in live.sandboxes and one.task is not None:
                one.rule = "no longer allowed"
                one.task.cancel()

    async def handle(self, incoming: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in incoming.raw_headers]
        request = Request(uuid.uuid4().hex, incoming.method, headers, task=asyncio.current_task())
        self._open.add(request)
        try:
            return await self._answer(incoming, request)
        except APIError as error:
            request.rule, request.status = error.rule, error.status
            if error.status >= 500:
                request.verdict = "Failed"
            return await _refuse(incoming, error)
        except asyncio.CancelledError:
            request.verdict = "Cancelled"
            raise
        except ConnectionError:
            request.verdict = "Cancelled"
            return web.Response()
        finally:
            self._open.discard(request)
            if request.reserved or request.sent:
                self._settle(request)
            self._note(request)
            if request.sandbox is not None:
                self._slots.give(request.sandbox.uid)
            await asyncio.shield(self._audit.record("request", request.line(loop.time() - started, started)))

    def waiting(self, seconds: float) -> None:
        """Have it found out whether the provider is there, where a request has got nothing from it for so long."""
        now = asyncio.get_running_loop().time()
        for one in self._open:
            if one.sandbox is not None and one.asked is not None and one.status is None and now - one.asked > seconds:
                self.reachability.failed(one.sandbox.uid, now - one.asked)

    def _note(self, request: Request) -> None:
        """What a request that has ended tells of the provider."""
        self.recent.note(request)
        if request.sandbox is None or request.asked is None:
            return
        if request.verdict == "Failed" or (request.status is not None and not answers(request.status)):
            self.reachability.failed(request.sandbox.uid)
        elif request.status is not None:
            self.reachability.answered()

    async def _answer(self, incoming: web.BaseRequest, request: Request) -> web.StreamResponse:
        check_headers(request.headers)
        request.route = route(incoming.method, incoming.raw_path)
        sandbox = await self._known(incoming, request)
        if request.route.api not in sandbox.apis and request.route.name != "hello":
            raise APIError(404, "not_found_error", f"the API {request.route.api} is not open to this sandbox", "path")
        if request.route.api == "Batches" and request.method == "POST" and (_limited(sandbox) or sandbox.models):
            raise invalid("batches can't be limited: send the requests one by one to /v1/messages", "batches")
        body = await self._body(incoming, request)
        live = self._live()
        request.credential = live.credentials.get(sandbox.uid)
        if request.credential is None:
            raise APIError(503, "api_error", "the gateway has no credential for this sandbox", "credential")
        return await self._exchange(incoming, request, body, request.credential, live)

    async def _known(self, incoming: web.BaseRequest, request: Request) -> Sandbox:
        """Whose it is, if it may have another one under way. Raises APIError."""
        live = self._live()
        presented = presented_to_broker(dict(request.headers))
        try:
            found = await live.identify(presented, incoming.remote or "") if presented is not None else None
        except IdentityError as error:
            request.claimed = error.pod
            raise _unknown(f" ({error.reason})", f"identity: {error.reason}") from None
        if found is None:
            raise _unknown()
        rate = self._rates.setdefault(found.uid, Rate(live.config.limits.requests_per_minute))
        wait = rate.take(asyncio.get_running_loop().time())
        if wait:
            raise APIError(429, "rate_limit_error", "too many requests in this minute", "rate", wait)
        if not self._slots.take(found.uid):
            raise APIError(429, "rate_limit_error", "too many requests at once", "concurrency", 1)
        request.sandbox = found
        return found

    async def _body(self, incoming: web.BaseRequest, request: Request) -> Body:
        """The body, as far as it is held before anything is sent. Raises APIError."""
        assert request.route is not None  # noqa: S101
        if incoming.content_length is not None and incoming.content_length > request.route.max_body:
            raise APIError(413, "request_too_large", f"the body is longer than {request.route.max_body} bytes", "size")
        if dict(request.headers).get("expect", "").lower() == "100-continue" and incoming.transport is not None:
            incoming.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

        async def judge(scanned: Scanned, size: int) -> None:
            await self._judge(request, scanned, size)

        body = Body(incoming.content, request.route.max_body, judge, scan=request.route.model)
        try:
            async with asyncio.timeout(self._live().config.limits.stream_idle):
                await body.hold()
        except TimeoutError:
            raise APIError(408, "invalid_request_error", "the body takes too long", "timeout") from None
        request.up = body.size
        return body

    async def _judge(self, request: Request, scanned: Scanned, size: int) -> None:
        """Whether the model may be asked for, and paid for. Raises APIError."""
        assert request.route is not None  # noqa: S101
        assert request.sandbox is not None  # noqa: S101
        if not request.route.model:
            return
        sandbox, request.body = request.sandbox, scanned
        model = scanned.fields.get("model")
        if not isinstance(model, str) or not model:
            raise invalid("model: it is missing, or no string", "malformed")
        if sandbox.models and not any(fnmatch.fnmatchcase(model, pattern) for pattern in sandbox.models):
            allowed = ", ".join(sandbox.models)
            raise invalid(f"model: {plain(model, 100)} is not allowed in this sandbox; allowed are {allowed}", "model")
        if not request.route.metered:
            return
        asked = scanned.fields.get("max_tokens")
        if _limited(sandbox) and (not isinstance(asked, int) or isinstance(asked, bool) or asked < 1):
            raise invalid("max_tokens: it is missing, or no number above 0; the budget needs it", "malformed")
        request.bound = self._live().prices.bound(scanned, size)
        if not _limited(sandbox):
            return
        try:
            await self._books.reserve(sandbox.uid, sandbox.budget, request.id, request.bound)
        except BudgetSpentError as spent:
            if not spent.hopeless:
                raise APIError(429, "rate_limit_error", str(spent), "budget held", 2) from None
            self.recent.short(sandbox.uid, sandbox.budget)
            raise APIError(402, "billing_error", str(spent), "budget") from None
        except StoreError:
            raise APIError(
                503, "api_error", "the gateway can't read or write what this sandbox used", "ledger"
            ) from None
        request.reserved = True
        self.recent.admitted(sandbox.uid)

    async def _exchange(
        self, incoming: web.BaseRequest, request: Request, body: Body, credential: Credential, live: Live
    ) -> web.StreamResponse:
        config = live.config
        headers = onward(request.headers, credential)
        headers.append(("accept-encoding", "identity"))
        if incoming.content_length is not None:
            headers.append(("content-length", str(incoming.content_length)))
        data = (body.held() or None) if body.whole else body.stream()
        url = URL(config.provider.base_url + incoming.raw_path, encoded=True)
        request.sent, request.verdict, request.rule = True, "Allowed", "allowed"
        request.asked = asyncio.get_running_loop().time()
        timeout = aiohttp.ClientTimeout(
            total=config.limits.total, sock_connect=config.limits.connect, sock_read=config.limits.stream_idle
        )
        try:
            async with self._upstreams.session(config.provider).request(
                request.method, url, headers=headers, data=data, timeout=timeout, allow_redirects=False,
                proxy=config.provider.upstream_proxy,
            ) as answer:  # fmt: skip
                return await self._pass_on(incoming, request, answer, config.limits.stream_idle)
        except aiohttp.ClientConnectorError:
            request.sent = False
            raise _failed("the model's provider can't be reached", "connect") from None
        except (aiohttp.ClientError, TimeoutError) as error:
            if body.refused is not None:
                request.sent, request.verdict = False, "Refused"
                raise body.refused from None
            if request.status is not None:
                return await _cut(incoming, request)
            slow = isinstance(error, TimeoutError)
            raise _failed("the model's provider does not answer", "timeout" if slow else "answer") from None
        except OSError:
            request.sent = False
            raise _failed("the way to the model's provider is not as configured", "connect") from None
        finally:
            request.up = body.size

    async def _pass_on(
        self, incoming: web.BaseRequest, request: Request, answer: aiohttp.ClientResponse, idle: float
    ) -> web.StreamResponse:
        connection = answer.connection
        peer = connection.transport.get_extra_info("peername") if connection and connection.transport else None
        request.dialled = str(peer[0]) if peer else None
        request.status = answer.status
        if answer.content_type == "text/event-stream":
            request.meter = StreamMeter()
        elif answer.content_type == "application/json":
            request.meter = WholeMeter()
        raw = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.raw_headers]
        response = web.StreamResponse(status=answer.status, reason=answer.reason)
        if self.draining:
            response.force_close()
        for name, value in back(raw):
            response.headers.add(name, value)
        loop = asyncio.get_running_loop()
        # The sandbox that doesn't read holds this up, as does the provider that doesn't send.
        async with asyncio.timeout(idle) as bound:
            await response.prepare(incoming)
            while part := await answer.content.readany():
                if request.first is None:
                    request.first = loop.time()
                if request.meter is not None:
                    request.meter.feed(part)
                request.down += len(part)
                await response.write(part)
                bound.reschedule(loop.time() + idle)
            await response.write_eof()
        return response

    def _settle(self, request: Request) -> None:
        """Put what it used in place of what it reserved; called once, however the request ended."""
        sandbox, held = request.sandbox, request.id if request.reserved else None
        if sandbox is None or request.route is None or not request.route.metered:
            return
        tokens = request.finalise(self._live().prices)
        if tokens is not None and request.cost is not None:
            model = plain(str(request.body.fields.get("model")), 100) or ""
            self._books.settle(sandbox.uid, sandbox.budget, held, model, tokens, request.cost)
        elif held is not None:
            self._books.release(sandbox.uid, held)


def _limited(sandbox: Sandbox) -> bool:
    return sandbox.budget.cost is not None or sandbox.budget.output is not None


def _unknown(why: str = "", rule: str = "identity") -> APIError:
    return APIError(401, "authentication_error", f"the gateway does not know this identity{why}", rule)


def _failed(message: str, rule: str) -> APIError:
    return APIError(502, "api_error", message, rule)


async def _refuse(incoming: web.BaseRequest, error: APIError) -> web.StreamResponse:
    response = web.Response(status=error.status, body=error.body(), headers=error.headers())
    # What is left of its body is not read.
    response.force_close()
    return response


async def _cut(incoming: web.BaseRequest, request: Request) -> web.StreamResponse:
    """One side broke off in the middle: so does this, that the other does not take it for an end."""
    gone = incoming.transport is None or incoming.transport.is_closing()
    request.verdict, request.rule = ("Cancelled", request.rule) if gone else ("Failed", "broken off")
    if incoming.transport is not None:
        incoming.transport.abort()
    with suppress(ConnectionError):
        await asyncio.sleep(0)
    return web.Response()
