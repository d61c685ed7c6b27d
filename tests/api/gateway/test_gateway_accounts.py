"""Accounts in ClaudeSandboxUsages of a real API server: exact with two gateways, whatever is lost on the way to it."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from faulty_proxy import FaultyProxy
from gateway_place import define

from claude_sandbox.api import meta
from claude_sandbox.api.kinds.usage import MAX_ACCOUNT, ClaudeSandboxUsageSpec
from claude_sandbox.gateway.budget.bookkeeper import Bookkeeper
from claude_sandbox.gateway.budget.ledger import (
    MAX_MODELS,
    MAX_RESERVED,
    Account,
    Budget,
    BudgetSpentError,
    Counts,
    Reservation,
)
from claude_sandbox.gateway.budget.prices import NANO, Bound, Tokens
from claude_sandbox.gateway.budget.store import NEW, StoreError
from claude_sandbox.gateway.kubernetes.accounts import UsageStore
from claude_sandbox.gateway.kubernetes.api_server import ApiServer
from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import Credentials
from claude_sandbox.localcluster.cluster import Cluster

pytestmark = pytest.mark.controlplane
UID = "5a0e6b1c-0000-4000-8000-000000000001"
BUDGET = Budget(cost=10 * NANO)
TOKEN_REQUEST = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
RULES = [{"apiGroups": [meta.GROUP], "resources": ["claudesandboxusages"], "verbs": ["get", "create", "update"]}]


@pytest.fixture
async def account(control_plane: Cluster, credentials: Credentials, api: Api, namespace: str, tmp_path: Path) -> Path:
    """The directory that the kubelet mounts into a pod whose Role has what the store's docstring says, and no more."""
    await define(api, r.USAGES)
    await api.create(r.SERVICE_ACCOUNTS, {"metadata": {"name": "gateway"}}, namespace)
    await api.create(r.ROLES, {"metadata": {"name": "gateway"}, "rules": RULES}, namespace)
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "gateway"}
    subject = {"kind": "ServiceAccount", "name": "gateway", "namespace": namespace}
    binding = {"metadata": {"name": "gateway"}, "roleRef": reference, "subjects": [subject]}
    await api.create(r.ROLE_BINDINGS, binding, namespace)
    made = await api.create(r.SERVICE_ACCOUNTS, TOKEN_REQUEST, namespace, name="gateway", subresource="token")
    token = made["status"]["token"]
    cluster = yaml.safe_load(control_plane.kubeconfig.read_text())["clusters"][0]["cluster"]
    (tmp_path / "token").write_text(f"{token}\n")
    (tmp_path / "namespace").write_text(namespace)
    (tmp_path / "ca.crt").write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    async with stores(tmp_path, credentials.server) as (store,):
        await until_told(store, "")
    return tmp_path


@contextlib.asynccontextmanager
async def stores(directory: Path, *servers: str) -> AsyncIterator[list[UsageStore]]:
    """One for each gateway."""
    apis = [ApiServer(directory, server) for server in servers]
    try:
        yield [UsageStore(one, lambda _: None) for one in apis]
    finally:
        for one in apis:
            await one.close()


def usage(**spec: str) -> dict[str, Any]:
    return {"apiVersion": meta.API_VERSION, "kind": meta.USAGE_KIND, "metadata": {"name": UID}, "spec": spec}


async def told(store: UsageStore) -> str:
    """Why the account can't be read; empty where it can."""
    try:
        await store.load(UID)
    except StoreError as error:
        return str(error)
    return ""


async def until_told(store: UsageStore, what: str) -> str:
    """Until this is told: who may do what is known to the API server a little later."""
    async with asyncio.timeout(20):
        while what not in (said := await told(store)) or bool(what) != bool(said):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        return said


async def spend(books: list[Bookkeeper], requests: int, each: int = NANO) -> int:
    """So many requests at once, by turns; how many were let through. All of them are settled."""

    async def one(number: int) -> bool:
        book = books[number % len(books)]
        try:
            await book.reserve(UID, BUDGET, str(number), Bound(1, 1, each))
        except BudgetSpentError:
            return False
        await asyncio.sleep(0.05)
        book.settle(UID, BUDGET, str(number), "m", Tokens(output=1), each)
        return True

    found = sum(await asyncio.gather(*(one(number) for number in range(requests))))
    for book in books:
        await book.flush(30)
    return found


async def test_200_requests_at_once_against_a_budget_for_ten_by_two_gateways(
    credentials: Credentials, account: Path
) -> None:
    async with stores(account, credentials.server, credentials.server) as two:
        books = [Bookkeeper(store) for store in two]
        assert await spend(books, 200) == 10
        found, _ = await two[0].load(UID)
        assert (found.spent, found.overrun, dict(found.reserved), found.models["m"].requests) == (10 * NANO, 0, {}, 10)
        # What comes at the same time is written together: far fewer writes than 200.
        assert sum(book.writes["written"] for book in books) <= 30


async def test_with_lost_answers_nothing_is_counted_twice_and_nobody_notices(account: Path, proxy: FaultyProxy) -> None:
    for method in ("POST", "PUT", "PUT", "PUT"):
        proxy.lose_answer(method, "claudesandboxusages")
    proxy.drop("GET", "claudesandboxusages", times=2)
    async with stores(account, proxy.credentials.server, proxy.credentials.server) as two:
        assert await spend([Bookkeeper(store) for store in two], 40) == 10
        found, _ = await two[0].load(UID)
        assert (found.spent, found.overrun, dict(found.reserved), found.models["m"].requests) == (10 * NANO, 0, {}, 10)


async def test_while_the_api_server_is_away_nothing_is_let_through_and_what_was_used_is_written_afterwards(
    account: Path, proxy: FaultyProxy
) -> None:
    async with stores(account, proxy.credentials.server) as (store,):
        book = Bookkeeper(store)
        await book.reserve(UID, BUDGET, "under way", Bound(1, 1, 6 * NANO))
        for method in ("GET", "PUT", "POST"):
            proxy.drop(method, "claudesandboxusages", times=10**6)
        book.settle(UID, BUDGET, "under way", "m", Tokens(output=1), 5 * NANO)
        with pytest.raises(StoreError, match="not to be had"):
            await book.reserve(UID, BUDGET, "meanwhile", Bound(1, 1, NANO))
        with pytest.raises(StoreError):
            await book.reserve(UID, BUDGET, "at once", Bound(1, 1, NANO))
        proxy.faults.clear()
        await book.flush(30)
        found, _ = await store.load(UID)
        assert (found.spent, list(found.reserved)) == (5 * NANO, [])
        await book.reserve(UID, BUDGET, "afterwards", Bound(1, 1, 5 * NANO))
        await book.flush()


async def test_the_object_is_the_sandboxes_and_a_version_that_is_gone_is_not_written_over(
    credentials: Credentials, account: Path, api: Api, namespace: str
) -> None:
    server = ApiServer(account, credentials.server)
    store = UsageStore(server, {UID: "work"}.get)
    first = await store.swap(UID, NEW, Account(spent=1))
    assert first is not None
    assert await store.swap(UID, NEW, Account(spent=2)) is None
    second = await store.swap(UID, first, Account(spent=3))
    assert second not in (None, first)
    assert await store.swap(UID, first, Account(spent=4)) is None
    assert await store.load(UID) == (Account(spent=3), second)
    found = await api.get(r.USAGES, UID, namespace)
    owners = [(one["kind"], one["name"], one["uid"]) for one in found["metadata"]["ownerReferences"]]
    assert owners == [("ClaudeSandbox", "work", UID)]
    await api.delete(r.USAGES, UID, namespace)
    assert await store.swap(UID, str(second), Account(spent=5)) is None
    assert await store.load(UID) == (Account(), NEW)
    # As somebody can make it beforehand, so that the gateway needs no right to create any.
    await api.create(r.USAGES, usage(), namespace)
    empty, version = await store.load(UID)
    assert empty == Account()
    assert await store.swap(UID, version, Account(spent=6))
    await server.close()


async def test_the_largest_account_is_written_whole_and_people_are_told_its_sums(
    credentials: Credentials, account: Path, api: Api, namespace: str
) -> None:
    held = {f"{number:032x}": Reservation(NANO, 10**6, 1.79e9 + 0.123456) for number in range(MAX_RESERVED)}
    models = {f"claude-{'x' * 120}-{number}": Counts(10**9, 7, 7, 7, 7, 10**15) for number in range(MAX_MODELS)}
    largest = Account(1.79e9, 3 * NANO, 12, 1, 0, held, models, {"w": 1})
    server = ApiServer(account, credentials.server)
    store = UsageStore(server, {UID: "work"}.get)
    version = await store.swap(UID, NEW, largest)
    assert await store.load(UID) == (largest, version)
    found = (await api.get(r.USAGES, UID, namespace))["spec"]
    assert len(found["account"]) < MAX_ACCOUNT // 2
    told = ClaudeSandboxUsageSpec.model_validate(found)
    assert (told.sandbox, told.cost_usd, told.output_tokens, told.requests) == ("work", "3", 12, MAX_MODELS * 10**9)
    assert (told.under_way, found["windowBegan"]) == (MAX_RESERVED, "2026-09-21T14:13:20Z")
    await server.close()


@pytest.mark.parametrize("content", ["", "{}", '{"spent":-1,"reserved":{},"models":{}}', "[" * 10_000])
async def test_a_content_that_is_no_account_lets_nothing_through(
    credentials: Credentials, account: Path, api: Api, namespace: str, content: str
) -> None:
    await api.create(r.USAGES, usage(account=content), namespace)
    async with stores(account, credentials.server) as (store,):
        with pytest.raises(StoreError, match=r"holds no account .* delete it"):
            await store.load(UID)


async def test_without_the_right_the_message_says_which_is_needed(
    credentials: Credentials, account: Path, api: Api, namespace: str
) -> None:
    await api.delete(r.ROLE_BINDINGS, "gateway", namespace)
    async with stores(account, credentials.server) as (store,):
        said = await until_told(store, "Role needs get, create and update of claudesandboxusages")
        assert (account / "token").read_text().strip() not in said


async def test_a_token_that_is_renewed_is_used_by_the_next_request(credentials: Credentials, account: Path) -> None:
    good = (account / "token").read_text()
    async with stores(account, credentials.server) as (store,):
        (account / "token").write_text("not one")
        with pytest.raises(StoreError, match="401"):
            await store.load(UID)
        (account / "token").write_text(good)
        assert await store.load(UID) == (Account(), NEW)
