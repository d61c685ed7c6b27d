"""The informer against a real API server: whatever goes wrong on the way, it ends up knowing what is there."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
import pytest
from faulty_proxy import Cut, FaultyProxy, Line, error_event

from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.credentials import Authorization, Credentials
from claude_sandbox.kubernetes_api.errors import ApiError
from claude_sandbox.kubernetes_api.informers.informer import Informer, Timings
from claude_sandbox.kubernetes_api.informers.transforms import PROJECTIONS

pytestmark = pytest.mark.controlplane

QUICK = Timings(resync=600, watch=300, idle=90, backoff=0.02, backoff_cap=0.1, refused=0.1)
RBAC = "rbac.authorization.k8s.io"
ROLES = r.Resource(RBAC, "v1", "roles", True, "Role")
BINDINGS = r.Resource(RBAC, "v1", "rolebindings", True, "RoleBinding")


# A label that is kept of every kind.
OURS = "claudesandbox.dev/x"


def account(name: str, **labels: str) -> Obj:
    return {"metadata": {"name": name, "labels": labels}}


class History:
    """What the handler was told, checked as it comes: each change begins where the one before ended."""

    def __init__(self) -> None:
        self.known: dict[str, Obj] = {}
        self.told: list[tuple[str, str]] = []

    def __call__(self, old: Obj | None, new: Obj | None) -> None:
        name = (old or new or {})["metadata"]["name"]
        assert self.known.get(name) is old, "a change that does not follow from the one before"
        if new is None:
            del self.known[name]
        else:
            self.known[name] = new
        self.told.append((name, "deleted" if new is None else "added" if old is None else "changed"))


@asynccontextmanager
async def following(informer: Informer) -> AsyncIterator[Informer]:
    task = asyncio.create_task(informer.run())
    try:
        async with asyncio.timeout(10):
            await informer.settled.wait()
        yield informer
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def eventually(condition: Callable[[], bool | Awaitable[bool]], what: str = "") -> None:
    async with asyncio.timeout(20):
        while True:
            result = condition()
            if result if isinstance(result, bool) else await result:
                return
            await asyncio.sleep(0.01)


def versions(objects: list[Obj] | Any) -> dict[str, str]:
    return {o["metadata"]["name"]: o["metadata"]["resourceVersion"] for o in objects}


async def test_what_is_there_and_what_comes_later_is_told_once(api: Api, namespace: str) -> None:
    await api.create(r.SERVICE_ACCOUNTS, account("before"), namespace)
    history = History()
    async with following(Informer(api, r.SERVICE_ACCOUNTS, namespace=namespace, on_change=history)) as informer:
        assert informer.synced.is_set()
        await api.create(r.SERVICE_ACCOUNTS, account("after"), namespace)
        await api.patch(r.SERVICE_ACCOUNTS, "before", namespace, {"metadata": {"labels": {OURS: "1"}}})
        await api.delete(r.SERVICE_ACCOUNTS, "after", namespace)
        await eventually(lambda: len(history.told) == 4)
    assert history.told == [("before", "added"), ("after", "added"), ("before", "changed"), ("after", "deleted")]
    held = informer.store.get(namespace, "before")
    assert held is not None
    assert held["kind"] == "ServiceAccount"
    assert held["apiVersion"] == "v1"
    assert "managedFields" not in held["metadata"]


async def test_only_what_is_selected_is_followed(api: Api, namespace: str) -> None:
    informer = Informer(api, r.SERVICE_ACCOUNTS, namespace=namespace, label_selector="mine=yes")
    async with following(informer):
        await api.create(r.SERVICE_ACCOUNTS, account("other"), namespace)
        await api.create(r.SERVICE_ACCOUNTS, account("mine", mine="yes"), namespace)
        await eventually(lambda: len(informer.store) == 1)
        await api.patch(r.SERVICE_ACCOUNTS, "mine", namespace, {"metadata": {"labels": {"mine": "no"}}})
        await eventually(lambda: len(informer.store) == 0)


async def test_secrets_are_known_by_their_names_only(api: Api, namespace: str) -> None:
    body = {
        "metadata": {
            "name": "s",
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": '{"data":{"k":"aGlkZGVu"}}'},
        },
        "type": "claudesandbox.dev/api-key",
        "data": {"k": "aGlkZGVu"},
    }
    await api.create(r.SECRETS, body, namespace)
    await api.create(r.SECRETS, {"metadata": {"name": "other"}, "data": {"k": "aGlkZGVu"}}, namespace)
    arrived: list[Obj] = []

    def look(obj: Obj) -> Obj:
        arrived.append(PROJECTIONS[r.SECRETS](obj))
        return arrived[-1]

    informer = Informer(
        api,
        r.SECRETS,
        namespace=namespace,
        field_selector="type=claudesandbox.dev/api-key",
        metadata_only=True,
        transform=look,
    )
    async with following(informer):
        await api.patch(r.SECRETS, "s", namespace, {"data": {"k": "aGlkZGVuIHRvbw=="}})
        await eventually(lambda: len(arrived) == 2)
    assert [o["metadata"]["name"] for o in arrived] == ["s", "s"]
    assert "aGlk" not in str(arrived)
    assert arrived[0]["kind"] == "Secret"


async def test_a_deletion_that_no_event_told_is_found_by_listing_again(
    proxy: FaultyProxy, api: Api, namespace: str
) -> None:
    for name in "abc":
        await api.create(r.SERVICE_ACCOUNTS, account(name), namespace)
    deaf, gone = True, asyncio.Event()

    def line(raw: bytes) -> bytes | None:
        if gone.is_set():
            return error_event(410)
        return None if deaf else raw

    proxy.edit("watch=1", line)
    history = History()
    async with Api(proxy.credentials) as through:
        informer = Informer(through, r.SERVICE_ACCOUNTS, namespace=namespace, on_change=history, pace=QUICK)
        async with following(informer):
            await eventually(lambda: proxy.streams == 1)
            await api.delete(r.SERVICE_ACCOUNTS, "a", namespace)
            await api.delete(r.SERVICE_ACCOUNTS, "b", namespace)
            await api.create(r.SERVICE_ACCOUNTS, account("b"), namespace)
            gone.set()
            await api.create(r.SERVICE_ACCOUNTS, account("d"), namespace)
            await eventually(lambda: ("d", "added") in history.told)
    assert sorted(history.told[3:]) == [("a", "deleted"), ("b", "changed"), ("d", "added")]
    assert informer.relists == 2


async def test_an_event_that_was_lost_is_caught_by_the_periodic_list(
    proxy: FaultyProxy, api: Api, namespace: str
) -> None:
    await api.create(r.SERVICE_ACCOUNTS, account("a"), namespace)
    proxy.edit("watch=1", lambda _: None, times=1)
    history = History()
    pace = Timings(resync=1.0, watch=300, backoff=0.02)
    async with Api(proxy.credentials) as through:
        informer = Informer(through, r.SERVICE_ACCOUNTS, namespace=namespace, on_change=history, pace=pace)
        async with following(informer):
            await eventually(lambda: proxy.streams == 1)
            await api.delete(r.SERVICE_ACCOUNTS, "a", namespace)
            await eventually(lambda: ("a", "deleted") in history.told)


async def test_an_event_that_can_never_be_read_is_passed_by_listing_again(
    proxy: FaultyProxy, api: Api, namespace: str
) -> None:
    proxy.edit("watch=1", lambda raw: b"garbage\n" if b'"poison"' in raw else raw, times=10**6)
    async with Api(proxy.credentials) as through:
        informer = Informer(through, r.SERVICE_ACCOUNTS, namespace=namespace, pace=QUICK)
        async with following(informer):
            await eventually(lambda: proxy.streams == 1)
            await api.create(r.SERVICE_ACCOUNTS, account("poison"), namespace)
            await api.create(r.SERVICE_ACCOUNTS, account("after"), namespace)
            await eventually(lambda: set(versions(informer.store)) == {"poison", "after"})


async def test_a_silent_connection_is_given_up_and_resumed_without_a_list(
    proxy: FaultyProxy, api: Api, namespace: str
) -> None:
    proxy.edit("watch=1", lambda _: None)
    pace = Timings(idle=0.5, backoff=0.02)
    async with Api(proxy.credentials) as through:
        informer = Informer(through, r.SERVICE_ACCOUNTS, namespace=namespace, pace=pace)
        async with following(informer):
            await eventually(lambda: proxy.streams == 1)
            await api.create(r.SERVICE_ACCOUNTS, account("a"), namespace)
            await eventually(lambda: len(informer.store) == 1)
            assert informer.relists == 1
            assert informer.readable


async def test_a_server_that_is_away_for_a_while_is_found_again(proxy: FaultyProxy, api: Api, namespace: str) -> None:
    async with Api(proxy.credentials) as through:
        informer = Informer(through, r.SERVICE_ACCOUNTS, namespace=namespace, pace=QUICK)
        async with following(informer):
            await eventually(lambda: proxy.streams == 1)
            # That the watch has begun is a contact as well: what comes by it shows that this is over.
            await api.create(r.SERVICE_ACCOUNTS, account("first"), namespace)
            await eventually(lambda: len(informer.store) == 1)
            proxy.drop("GET", "watch=1", times=5)
            cut = asyncio.Event()

            def line(raw: bytes) -> bytes | None:
                raise Cut(raw[: len(raw) // 2])

            proxy.edit("watch=1", line, times=1)
            proxy.online.clear()
            before = informer.last_contact
            await api.create(r.SERVICE_ACCOUNTS, account("a"), namespace)
            assert informer.last_contact == before
            assert informer.age() >= 0
            proxy.online.set()
            await eventually(lambda: len(informer.store) == 2)
            assert informer.last_contact.monotonic > before.monotonic
            cut.set()


async def test_a_refusal_is_a_state_with_a_reason_and_ends_when_the_right_is_granted(
    api: Api, credentials: Credentials, namespace: str
) -> None:
    await api.create(r.SERVICE_ACCOUNTS, account("operator"), namespace)
    request = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {}}
    answer = await api.create(r.SERVICE_ACCOUNTS, request, namespace, name="operator", subresource="token")
    value = "Bearer " + answer["status"]["token"]
    weak = await with_token(credentials, value)
    async with Api(weak) as limited:
        informer = Informer(limited, r.SECRETS, namespace=namespace, metadata_only=True, pace=QUICK)
        async with following(informer):
            assert not informer.readable
            assert not informer.synced.is_set()
            assert 'cannot list resource "secrets"' in informer.why_not
            rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list", "watch"]}]
            await api.create(ROLES, {"metadata": {"name": "r"}, "rules": rules}, namespace)
            subject = {"kind": "ServiceAccount", "name": "operator", "namespace": namespace}
            reference = {"apiGroup": RBAC, "kind": "Role", "name": "r"}
            binding = {"metadata": {"name": "r"}, "roleRef": reference, "subjects": [subject]}
            await api.create(BINDINGS, binding, namespace)
            await eventually(informer.synced.is_set)
            assert informer.readable
            assert informer.why_not == ""


async def with_token(credentials: Credentials, value: str) -> Credentials:
    """The same server, without the administrator's client certificate."""
    import ssl

    context = ssl.create_default_context()
    context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
    assert credentials.ssl_context is not None
    pems = [ssl.DER_cert_to_PEM_cert(der) for der in credentials.ssl_context.get_ca_certs(binary_form=True)]
    context.load_verify_locations(cadata="\n".join(pems))
    return Credentials(credentials.server, Authorization(value, lambda _: value), context)


async def test_a_kind_that_does_not_exist_is_a_state_too(api: Api, namespace: str) -> None:
    unknown = r.Resource("example.dev", "v1", "widgets", True, "Widget")
    async with following(Informer(api, unknown, namespace=namespace, pace=QUICK)) as informer:
        assert not informer.readable
        assert "404" in informer.why_not


async def test_what_a_write_answered_is_known_at_once_and_not_told(
    proxy: FaultyProxy, api: Api, namespace: str
) -> None:
    history = History()
    async with Api(proxy.credentials) as through:
        informer = Informer(through, r.SERVICE_ACCOUNTS, namespace=namespace, on_change=history)
        async with following(informer):
            await eventually(lambda: proxy.streams == 1)
            proxy.online.clear()  # the watch is behind
            informer.learn(await api.create(r.SERVICE_ACCOUNTS, account("a"), namespace))
            assert informer.store.get(namespace, "a") is not None
            await api.create(r.SERVICE_ACCOUNTS, account("mark"), namespace)
            proxy.online.set()
            await eventually(lambda: ("mark", "added") in history.told)
            assert history.told == [("mark", "added")]


async def test_a_change_by_someone_else_below_our_own_write_is_told(
    proxy: FaultyProxy, api: Api, namespace: str
) -> None:
    told: list[tuple[Obj | None, Obj | None]] = []
    await api.create(r.SERVICE_ACCOUNTS, account("a"), namespace)
    async with Api(proxy.credentials) as through:
        informer = Informer(
            through, r.SERVICE_ACCOUNTS, namespace=namespace, on_change=lambda old, new: told.append((old, new))
        )
        async with following(informer):
            await eventually(lambda: proxy.streams == 1)
            told.clear()
            proxy.online.clear()
            await api.patch(r.SERVICE_ACCOUNTS, "a", namespace, {"metadata": {"labels": {OURS: "theirs"}}})
            ours = await api.patch(r.SERVICE_ACCOUNTS, "a", namespace, {"metadata": {"annotations": {"y": "ours"}}})
            informer.learn(ours)
            proxy.online.set()
            await eventually(lambda: bool(told))
            ((old, new),) = told
            assert old is not None
            assert new is not None
            assert "labels" not in old["metadata"]
            assert new["metadata"]["labels"] == {OURS: "theirs"}
            assert versions(informer.store)["a"] == ours["metadata"]["resourceVersion"]


async def test_what_was_learnt_while_a_list_was_read_is_not_undone_by_it(
    proxy: FaultyProxy, api: Api, namespace: str
) -> None:
    history = History()
    await api.create(r.SERVICE_ACCOUNTS, account("old"), namespace)
    proxy.edit("watch=1", lambda _: error_event(410))
    async with Api(proxy.credentials) as through:
        informer = Informer(through, r.SERVICE_ACCOUNTS, namespace=namespace, on_change=history, pace=QUICK)
        async with following(informer):
            await eventually(lambda: proxy.streams == 1)
            release = asyncio.Event()
            listed = proxy.hold("GET", "limit=", release)
            await api.create(r.SERVICE_ACCOUNTS, account("cause"), namespace)  # its event becomes a 410
            await listed.wait()
            informer.learn(await api.create(r.SERVICE_ACCOUNTS, account("new"), namespace))
            patch = {"metadata": {"labels": {OURS: "1"}}}
            informer.learn(await api.patch(r.SERVICE_ACCOUNTS, "old", namespace, patch))
            release.set()
            await eventually(lambda: informer.relists == 2)
            await api.create(r.SERVICE_ACCOUNTS, account("mark"), namespace)
            await eventually(lambda: ("mark", "added") in history.told)
            assert history.told == [("old", "added"), ("cause", "added"), ("mark", "added")]
            assert versions(informer.store) == versions((await api.list(r.SERVICE_ACCOUNTS, namespace)).items)


async def test_what_was_learnt_before_an_outage_is_told_when_the_list_cannot_tell_what_came_between(
    proxy: FaultyProxy, api: Api, namespace: str
) -> None:
    told: list[str] = []
    await api.create(r.SERVICE_ACCOUNTS, account("a"), namespace)
    proxy.edit("watch=1", lambda _: error_event(410))
    async with Api(proxy.credentials) as through:
        informer = Informer(
            through,
            r.SERVICE_ACCOUNTS,
            namespace=namespace,
            on_change=lambda old, new: told.append((new or old or {})["metadata"]["name"]),
            pace=QUICK,
        )
        async with following(informer):
            await eventually(lambda: proxy.streams == 1)
            proxy.online.clear()
            await api.patch(r.SERVICE_ACCOUNTS, "a", namespace, {"metadata": {"labels": {OURS: "theirs"}}})
            patch = {"metadata": {"annotations": {"y": "ours"}}}
            informer.learn(await api.patch(r.SERVICE_ACCOUNTS, "a", namespace, patch))
            proxy.online.set()
            await eventually(lambda: told == ["a", "a"])


@pytest.mark.parametrize("seed", range(8))
async def test_after_any_trouble_the_store_is_what_the_server_has(
    proxy: FaultyProxy, api: Api, namespace: str, seed: int
) -> None:
    """Odd seeds learn from the answers of half of their writes; then not all is told, but all is known."""
    rng = random.Random(seed)  # noqa: S311
    history = History()
    faults: list[Callable[[], None]] = [
        lambda: proxy.edit("watch=1", after(rng.randint(1, 4), lambda raw: cut(raw[: rng.randint(0, len(raw) - 1)]))),
        lambda: proxy.edit("watch=1", after(rng.randint(1, 4), lambda _: cut(b'{"type":"ADDED","obj'))),
        lambda: proxy.edit("watch=1", after(rng.randint(1, 4), lambda _: b"<html>not json</html>\n")),
        lambda: proxy.edit("watch=1", after(rng.randint(1, 4), lambda _: b'{"type":"ADDED","object":{}}\n')),
        lambda: proxy.edit("watch=1", after(rng.randint(1, 4), lambda _: error_event(410))),
        lambda: proxy.edit("watch=1", after(rng.randint(1, 4), lambda _: error_event(500))),
        lambda: proxy.answer("GET", "watch=1", 410),
        lambda: proxy.answer("GET", "watch=1", 429, Retry_After="0"),
        lambda: proxy.answer("GET", "watch=1", 503, b"oops"),
        lambda: proxy.drop("GET", "watch=1"),
        lambda: proxy.answer("GET", "limit=", 500, times=5),
        lambda: proxy.drop("GET", "limit="),
    ]
    names = [f"a{n}" for n in range(6)]
    async with Api(proxy.credentials) as through:
        learning = seed % 2 == 1
        handler = None if learning else history
        informer = Informer(through, r.SERVICE_ACCOUNTS, namespace=namespace, on_change=handler, pace=QUICK)
        async with following(informer):
            for _ in range(80):
                if rng.random() < 0.3:
                    rng.choice(faults)()
                answer = await one_write(api, namespace, rng, rng.choice(names))
                if answer and learning and rng.random() < 0.5:
                    informer.learn(answer)

            async def same() -> bool:
                return versions(informer.store) == versions((await api.list(r.SERVICE_ACCOUNTS, namespace)).items)

            proxy.faults.clear()
            await eventually(same)
            if not learning:
                assert versions(history.known.values()) == versions(informer.store)
            await eventually(lambda: not informer._ahead)


async def one_write(api: Api, namespace: str, rng: random.Random, name: str) -> Obj | None:
    try:
        match rng.randint(0, 2):
            case 0:
                return await api.create(r.SERVICE_ACCOUNTS, account(name), namespace)
            case 1:
                labels = {OURS: str(rng.random())}
                return await api.patch(r.SERVICE_ACCOUNTS, name, namespace, {"metadata": {"labels": labels}})
            case 2:
                await api.delete(r.SERVICE_ACCOUNTS, name, namespace)
    except ApiError as error:
        if not (error.is_not_found or error.is_already_exists):
            raise
    return None


def after(events: int, then: Line) -> Line:
    """Leave some events alone, then do something else to each."""
    left = events

    def line(raw: bytes) -> bytes | None:
        nonlocal left
        if orjson.loads(raw)["type"] == "BOOKMARK":
            return raw
        left -= 1
        return raw if left >= 0 else then(raw)

    return line


def cut(last: bytes) -> bytes:
    raise Cut(last)
