"""The broker: takes requests for the model from sandboxes, puts the real credential in, and passes them on.

Theory of operation. Holds nothing of a request but what is under way: its `Request`, of which one line of the audit is
made at its end, however it ends, and whose reservation is settled then, once. What is declared, and the credential, are
looked up when they are needed, last when the whole body has come. Used from one event loop; after a crash what was
reserved counts in full, and what was under way has no line.

Answers are passed on as they come: what the sandbox does not read is not read from the provider either, and a sandbox
that goes away ends the request at the provider.
"""

import asyncio
import fnmatch
import itertools
import uuid
from collections.abc import Callable

from aiohttp import web

from claude_sandbox.gateway.audit import Audit, plain
from claude_sandbox.gateway.broker.bodies import Body
from claude_sandbox.gateway.broker.exchange import Request
from claude_sandbox.gateway.broker.passing import cut, pass_on, refuse
from claude_sandbox.gateway.broker.provider import APIError, check_headers, invalid, onward, route
from claude_sandbox.gateway.broker.reachability import Reachability
from claude_sandbox.gateway.broker.recent import RecentRequests, answers
from claude_sandbox.gateway.broker.upstream import Message, MisconfiguredError, UnreachableError, Upstreams
from claude_sandbox.gateway.budget.bookkeeper import Bookkeeper
from claude_sandbox.gateway.budget.ledger import BudgetSpentError
from claude_sandbox.gateway.budget.store import StoreError
from claude_sandbox.gateway.config.config import Sandbox
from claude_sandbox.gateway.config.follow import Credential, Live
from claude_sandbox.gateway.http.answer import AnswerError
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
        # Of requests: what no other gateway has, and a number.
        self._own = uuid.uuid4().hex[:16]
        self._numbers = itertools.count()
        self.draining = False
        self.changed()

    @property
    def open(self) -> int:
        """Requests at this moment."""
        return len(self._open)

    def changed(self) -> None:
        """Take the limits as they are now; end what sandboxes have under way that are no longer there, or are in
        quarantine; of a credential that is gone, note whose it was."""
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
            if one.sandbox is None or one.task is None:
                continue
            now = live.sandboxes.get(one.sandbox.uid)
            if now is None or (one.credential is not None and now.credential is None):
                one.rule = "no longer allowed"
                one.task.cancel()
            elif one.credential is not None and one.sandbox.uid not in live.credentials:
                # For good, though another may come: with this one nothing is begun any more.
                one.withdrawn = True

    async def handle(self, incoming: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in incoming.raw_headers]
        request = Request(
            f"{self._own}{next(self._numbers):x}", incoming.method, headers, dict(headers), task=asyncio.current_task()
        )
        self._open.add(request)
        try:
            return await self._answer(incoming, request)
        except APIError as error:
            request.rule, request.status = error.rule, error.status
            if error.status >= 500:
                request.verdict = "Failed"
            return refuse(error)
        except asyncio.CancelledError:
            request.verdict = "Cancelled"
            raise
        except ConnectionError:
            request.verdict = "Cancelled"
            return web.Response()
        finally:
            # Nothing is waited for until it is settled and its place given back: who is cancelled may be cancelled
            # again, and a reservation that nobody settles counts for ever.
            self._open.discard(request)
            if request.reserved or request.sent:
                self._settle(request)
            self._note(request)
            if request.sandbox is not None:
                self._slots.give(request.sandbox.uid)
            await self._audit.record("request", request.line(loop.time() - started, started))

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
        check_headers(incoming.version[:2], request.headers)
        request.route = route(incoming.method, incoming.raw_path)
        sandbox = await self._known(incoming, request)
        if request.route.api not in sandbox.apis and request.route.name != "hello":
            raise APIError(404, "not_found_error", f"the API {request.route.api} is not open to this sandbox", "path")
        if request.route.api == "Batches" and request.method == "POST" and (_limited(sandbox) or sandbox.models):
            raise invalid("batches can't be limited: send the requests one by one to /v1/messages", "batches")
        body = await self._body(incoming, request)
        live = self._live()
        # Read after the body, which may have taken minutes: another credential may be in use by now.
        request.credential = live.credentials.get(sandbox.uid)
        if request.credential is None:
            raise _no_credential()
        return await self._exchange(incoming, request, body, request.credential, live)

    async def _known(self, incoming: web.BaseRequest, request: Request) -> Sandbox:
        """Whose it is, if it may have another one under way. Raises APIError."""
        live = self._live()
        presented = presented_to_broker(request.by_name)
        try:
            found = await live.identify(presented, incoming.remote or "") if presented is not None else None
        except IdentityError as error:
            request.claimed = error.pod
            raise _unknown(f" ({error.reason})", f"identity: {error.reason}") from None
        if found is None:
            raise _unknown()
        # After it is known whose it is: nobody uses up another's minute.
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
        if request.by_name.get("expect", "").lower() == "100-continue" and incoming.transport is not None:
            incoming.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

        async def judge(scanned: Scanned, size: int) -> None:
            await self._judge(request, scanned, size)
            # Of a body that goes on as it comes the head is at the provider, with the credential in it.
            if request.withdrawn:
                raise _no_credential()

        body = Body(incoming.content, request.route.max_body, judge, json=request.route.model)
        try:
            if incoming.content.is_eof():
                # Nothing is waited for.
                await body.hold()
            else:
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
        # As it is declared now, since the body may have taken minutes. Of one that is gone the request is being ended.
        request.sandbox = sandbox = self._live().sandboxes.get(request.sandbox.uid, request.sandbox)
        request.body = scanned
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
        request.size = size
        if not _limited(sandbox):
            return
        request.bound = self._live().prices.bound(scanned, size)
        try:
            await self._books.reserve(sandbox.uid, sandbox.budget, request.id, request.bound)
        except BudgetSpentError as spent:
            # What others have under way holds the rest of the budget; when they are settled there may be room.
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
        provider, limits = live.config.provider, live.config.limits
        headers = [*onward(request.headers, credential), ("accept-encoding", "identity")]
        content = body.held() if body.whole else body.stream()
        length = incoming.content_length
        if isinstance(content, bytes):
            # Of a body that is empty it is said where one is expected (RFC 9110, 8.6).
            length = len(content) if content or request.method == "POST" else None
        message = Message(request.method, incoming.raw_path, headers, content, length)
        request.verdict, request.rule = "Allowed", "allowed"
        request.asked = asyncio.get_running_loop().time()
        try:
            async with self._upstreams.exchange(provider, message, limits.connect) as connection:
                # It is under way: whatever ends it from here on, it may have reached the provider, and counts.
                request.sent = True
                return await pass_on(incoming, request, body, connection, limits, last=self.draining)
        except UnreachableError:
            raise _failed("the model's provider can't be reached", "connect") from None
        except MisconfiguredError:
            raise _failed("the way to the model's provider is not as configured", "connect") from None
        except (AnswerError, TimeoutError, ConnectionError) as error:
            # The sandbox has a part of the answer already, and no refusal can follow that.
            if request.status is not None:
                return await cut(incoming, request)
            if body.refused is not None:
                request.sent, request.verdict = False, "Refused"
                raise body.refused from None
            if isinstance(error, ConnectionError):
                raise
            slow = isinstance(error, TimeoutError)
            raise _failed("the model's provider does not answer", "timeout" if slow else "answer") from None
        finally:
            request.up = body.size

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


def _no_credential() -> APIError:
    return APIError(503, "api_error", "the gateway has no credential for this sandbox", "credential")


def _failed(message: str, rule: str) -> APIError:
    return APIError(502, "api_error", message, rule)
