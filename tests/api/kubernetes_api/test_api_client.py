"""The client against a real API server, and through a proxy that goes wrong."""

import asyncio
import traceback
from contextlib import aclosing

import pytest
from faulty_proxy import FaultyProxy

from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.credentials import Authorization, Credentials
from claude_sandbox.kubernetes_api.errors import ApiError

pytestmark = pytest.mark.controlplane


def account(name: str, namespace: str, **labels: str) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
    }


def secret(name: str, namespace: str, data: dict[str, str]) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "data": data,
    }


async def test_an_object_is_created_read_and_deleted(api: Api, namespace: str) -> None:
    created = await api.create(r.SERVICE_ACCOUNTS, account("a", namespace, x="1"), namespace)
    assert created["metadata"]["managedFields"][0]["manager"] == "claude-sandbox"
    assert (await api.get(r.SERVICE_ACCOUNTS, "a", namespace))["metadata"]["uid"] == created["metadata"]["uid"]
    with pytest.raises(ApiError) as again:
        await api.create(r.SERVICE_ACCOUNTS, account("a", namespace), namespace)
    assert again.value.is_already_exists
    assert not again.value.is_conflict
    await api.delete(r.SERVICE_ACCOUNTS, "a", namespace)
    with pytest.raises(ApiError) as gone:
        await api.get(r.SERVICE_ACCOUNTS, "a", namespace)
    assert gone.value.is_not_found


async def test_another_object_of_the_same_name_is_not_deleted(api: Api, namespace: str) -> None:
    old = await api.create(r.SERVICE_ACCOUNTS, account("a", namespace), namespace)
    await api.delete(r.SERVICE_ACCOUNTS, "a", namespace, uid=old["metadata"]["uid"])
    new = await api.create(r.SERVICE_ACCOUNTS, account("a", namespace), namespace)
    with pytest.raises(ApiError) as other:
        await api.delete(r.SERVICE_ACCOUNTS, "a", namespace, uid=old["metadata"]["uid"])
    assert other.value.is_conflict
    version = new["metadata"]["resourceVersion"]
    await api.apply(r.SERVICE_ACCOUNTS, account("a", namespace, changed="yes"))
    recreated = account("a", namespace, changed="again")
    recreated["metadata"]["uid"] = old["metadata"]["uid"]
    with pytest.raises(ApiError) as applied:
        await api.apply(r.SERVICE_ACCOUNTS, recreated)
    assert applied.value.is_conflict
    with pytest.raises(ApiError) as changed:
        await api.delete(r.SERVICE_ACCOUNTS, "a", namespace, resource_version=version)
    assert changed.value.is_conflict


async def test_applying_the_same_twice_writes_once(api: Api, namespace: str) -> None:
    first = await api.apply(r.SERVICE_ACCOUNTS, account("a", namespace, x="1"))
    second = await api.apply(r.SERVICE_ACCOUNTS, account("a", namespace, x="1"))
    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]
    third = await api.apply(r.SERVICE_ACCOUNTS, account("a", namespace))
    assert "labels" not in third["metadata"], "a field that is no longer applied goes away"


async def test_applying_with_the_uid_of_a_deleted_object_does_not_bring_it_back(api: Api, namespace: str) -> None:
    old = await api.apply(r.SERVICE_ACCOUNTS, account("a", namespace))
    await api.delete(r.SERVICE_ACCOUNTS, "a", namespace)
    body = account("a", namespace)
    body["metadata"]["uid"] = old["metadata"]["uid"]
    with pytest.raises(ApiError) as error:
        await api.apply(r.SERVICE_ACCOUNTS, body)
    assert error.value.is_conflict


async def test_a_dry_run_changes_nothing(api: Api, namespace: str) -> None:
    await api.create(r.SERVICE_ACCOUNTS, account("a", namespace), namespace, dry_run=True)
    await api.apply(r.SERVICE_ACCOUNTS, account("b", namespace), dry_run=True)
    assert (await api.list(r.SERVICE_ACCOUNTS, namespace)).items == []


async def test_a_status_is_merged_and_guarded_by_the_version(api: Api, namespace: str) -> None:
    await api.create(r.SERVICE_ACCOUNTS, account("a", namespace), namespace)
    pod = await api.create(
        r.PODS,
        {
            "metadata": {"name": "p"},
            "spec": {"serviceAccountName": "a", "containers": [{"name": "c", "image": "i"}]},
        },
        namespace,
    )
    version, uid = pod["metadata"]["resourceVersion"], pod["metadata"]["uid"]
    now = await api.patch_status(r.PODS, "p", namespace, {"message": "one"}, uid=uid, resource_version=version)
    assert now["status"]["message"] == "one"
    assert now["status"]["phase"] == "Pending", "what the patch does not name stays"
    with pytest.raises(ApiError) as stale:
        await api.patch_status(r.PODS, "p", namespace, {"message": "two"}, resource_version=version)
    assert stale.value.is_conflict
    with pytest.raises(ApiError) as other:
        await api.patch_status(r.PODS, "p", namespace, {"message": "two"}, uid="another")
    assert other.value.is_conflict


async def test_a_long_list_comes_in_pages_of_one_version(proxy: FaultyProxy, api: Api, namespace: str) -> None:
    await asyncio.gather(*(api.create(r.SERVICE_ACCOUNTS, account(f"a-{n}", namespace), namespace) for n in range(25)))
    async with Api(proxy.credentials) as through:
        versions = []
        names = []
        async for page in through.pages(r.SERVICE_ACCOUNTS, namespace, limit=10):
            versions.append(page.resource_version)
            names += [item["metadata"]["name"] for item in page.items]
            await api.create(r.SERVICE_ACCOUNTS, account(f"later-{len(versions)}", namespace), namespace)
    assert sorted(names) == sorted(f"a-{n}" for n in range(25))
    assert len(versions) == 3
    assert len(set(versions)) == 1


async def test_a_list_whose_continue_token_expires_is_read_in_one_page(
    proxy: FaultyProxy, api: Api, namespace: str
) -> None:
    await asyncio.gather(*(api.create(r.SERVICE_ACCOUNTS, account(f"a-{n}", namespace), namespace) for n in range(12)))
    proxy.answer("GET", "continue=", 410)
    async with Api(proxy.credentials) as through:
        listing = await through.list(r.SERVICE_ACCOUNTS, namespace, limit=5)
    assert len(listing.items) == 12
    assert int(listing.resource_version) > 0


async def test_metadata_of_secrets_comes_without_their_data(api: Api, namespace: str) -> None:
    await api.create(r.SECRETS, secret("s", namespace, {"key": "aGlkZGVu"}), namespace)
    one = await api.get(r.SECRETS, "s", namespace, metadata_only=True)
    listing = await api.list(r.SECRETS, namespace, metadata_only=True)
    assert "aGlkZGVu" not in str([one, listing])
    assert one["kind"] == "PartialObjectMetadata"
    async with aclosing(
        api.watch(r.SECRETS, namespace, resource_version=listing.resource_version, metadata_only=True)
    ) as watch:
        await api.patch(r.SECRETS, "s", namespace, {"data": {"key": "aGlkZGVuIHRvbw=="}})
        event = await anext(watch)
    assert event["type"] == "MODIFIED"
    assert "aGlk" not in str(event)


async def test_an_error_about_a_secret_does_not_quote_it(api: Api, namespace: str) -> None:
    bad = secret("s", namespace, {"key": "not base64: hidden"})
    worse = secret("s", namespace, {"hidden key!": "aGk="})
    for body in (bad, worse):
        with pytest.raises(ApiError) as error:
            await api.create(r.SECRETS, body, namespace)
        assert error.value.status in (400, 422)
        assert "hidden" not in f"{error.value} {error.value!r} {error.value.details}"
        with pytest.raises(ApiError) as error:
            await api.apply(r.SECRETS, body)
        assert error.value.status in (400, 422, 500)
        assert "hidden" not in f"{error.value} {error.value!r} {error.value.details}"


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_what_passes_is_tried_again(proxy: FaultyProxy, namespace: str, api: Api, status: int) -> None:
    proxy.answer("POST", "serviceaccounts", status, times=2)
    async with Api(proxy.credentials) as through:
        await through.create(r.SERVICE_ACCOUNTS, account("a", namespace), namespace)
    assert len(proxy.seen("POST", "serviceaccounts")) == 3
    assert (await api.get(r.SERVICE_ACCOUNTS, "a", namespace))["metadata"]["name"] == "a"


async def test_after_four_tries_the_error_is_the_last_answer(proxy: FaultyProxy, namespace: str) -> None:
    proxy.answer("GET", "serviceaccounts", 503, times=99)
    async with Api(proxy.credentials) as through:
        with pytest.raises(ApiError) as error:
            await through.list(r.SERVICE_ACCOUNTS, namespace)
    assert error.value.status == 503
    assert error.value.is_transient
    assert len(proxy.seen("GET", "serviceaccounts")) == 4


async def test_the_server_says_when_to_come_back(proxy: FaultyProxy, namespace: str) -> None:
    proxy.answer("GET", "serviceaccounts", 429, Retry_After="1")
    async with Api(proxy.credentials) as through:
        await through.list(r.SERVICE_ACCOUNTS, namespace)
        first, second = proxy.seen("GET", "serviceaccounts")
        assert second - first >= 1
        proxy.answer("GET", "serviceaccounts", 429, Retry_After="60")
        with pytest.raises(ApiError) as error:
            await through.list(r.SERVICE_ACCOUNTS, namespace)
    assert error.value.retry_after == 60, "too long to wait for here: whoever asked decides"


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422])
async def test_what_will_not_pass_is_not_tried_again(proxy: FaultyProxy, namespace: str, status: int) -> None:
    proxy.answer("POST", "serviceaccounts", status)
    async with Api(proxy.credentials) as through:
        with pytest.raises(ApiError) as error:
            await through.create(r.SERVICE_ACCOUNTS, account("a", namespace), namespace)
    assert error.value.status == status
    assert len(proxy.requests) == 1


async def test_a_create_whose_answer_is_lost_answers_already_exists(
    proxy: FaultyProxy, api: Api, namespace: str
) -> None:
    proxy.lose_answer("POST", "serviceaccounts")
    async with Api(proxy.credentials) as through:
        with pytest.raises(ApiError) as error:
            await through.create(r.SERVICE_ACCOUNTS, account("a", namespace), namespace)
    assert error.value.is_already_exists
    assert await api.get(r.SERVICE_ACCOUNTS, "a", namespace)


async def test_a_create_under_a_generated_name_is_never_done_twice(
    proxy: FaultyProxy, api: Api, namespace: str
) -> None:
    body: Obj = {"metadata": {"generateName": "a-"}}
    proxy.lose_answer("POST", "serviceaccounts")
    async with Api(proxy.credentials) as through:
        with pytest.raises(ApiError) as error:
            await through.create(r.SERVICE_ACCOUNTS, body, namespace)
        assert error.value.is_ambiguous
        assert len((await api.list(r.SERVICE_ACCOUNTS, namespace)).items) == 1
        proxy.answer("POST", "serviceaccounts", 429)  # this one was surely not carried out
        await through.create(r.SERVICE_ACCOUNTS, body, namespace)
    assert len((await api.list(r.SERVICE_ACCOUNTS, namespace)).items) == 2


async def test_an_answer_that_is_no_json_is_tried_again(proxy: FaultyProxy, namespace: str) -> None:
    proxy.answer("GET", "serviceaccounts", 200, b"<html>hello</html>")
    proxy.answer("GET", "serviceaccounts", 502, b"<html>bad gateway</html>")
    async with Api(proxy.credentials) as through:
        listing = await through.list(r.SERVICE_ACCOUNTS, namespace)
    assert listing.items == []
    assert len(proxy.requests) == 3


async def test_a_server_that_does_not_answer_costs_only_the_time_out(proxy: FaultyProxy, namespace: str) -> None:
    proxy.hang("GET", "serviceaccounts", times=9)
    async with Api(proxy.credentials, timeout=0.3, attempts=2) as through:
        with pytest.raises(ApiError) as error:
            await through.list(r.SERVICE_ACCOUNTS, namespace)
    assert error.value.reason == "TimedOut"
    assert error.value.is_ambiguous
    assert len(proxy.requests) == 2


async def test_no_error_carries_the_credential(proxy: FaultyProxy, namespace: str) -> None:
    proxy.drop("GET", "serviceaccounts", times=99)
    proxy.answer("GET", "secrets", 500, b"oops", times=99)
    async with Api(proxy.credentials, attempts=2) as through:
        for resource in (r.SERVICE_ACCOUNTS, r.SECRETS):
            with pytest.raises(ApiError) as caught:
                await through.list(resource, namespace)
            error = caught.value
            shown = "".join(traceback.format_exception(error)) + repr(vars(error)) + repr(error.__cause__)
            assert "not-to-be-seen" not in shown
    assert "not-to-be-seen" not in repr(proxy.credentials) + str(proxy.credentials)


async def test_a_server_with_another_certificate_authority_is_not_talked_to(credentials: Credentials) -> None:
    import ssl

    stranger = Credentials(credentials.server, credentials.authorization, ssl.create_default_context())
    async with Api(stranger) as api:
        with pytest.raises(ApiError) as error:
            await api.get_path("/version")
    assert error.value.reason == "UntrustedServer"
    assert not error.value.is_transient


async def test_without_a_permit_no_write_leaves(proxy: FaultyProxy, namespace: str) -> None:
    class NotLeadingError(Exception):
        pass

    def refuse() -> float:
        raise NotLeadingError

    async with Api(proxy.credentials, write_permit=refuse) as through:
        await through.list(r.SERVICE_ACCOUNTS, namespace)
        for write in (
            through.create(r.SERVICE_ACCOUNTS, account("a", namespace), namespace),
            through.apply(r.SERVICE_ACCOUNTS, account("a", namespace)),
            through.patch(r.SERVICE_ACCOUNTS, "a", namespace, {}),
            through.replace(r.SERVICE_ACCOUNTS, account("a", namespace)),
            through.delete(r.SERVICE_ACCOUNTS, "a", namespace),
        ):
            with pytest.raises(NotLeadingError):
                await write
    assert {method for method, _, _ in proxy.requests} == {"GET"}


async def test_a_permit_that_ends_while_the_credential_is_renewed_stops_the_write(
    proxy: FaultyProxy, namespace: str
) -> None:
    class NotLeadingError(Exception):
        pass

    leading = True

    def permit() -> float:
        if not leading:
            raise NotLeadingError
        return 10.0

    def renew(_force: bool) -> str:
        nonlocal leading
        leading = False
        return "Bearer new"

    proxy.answer("POST", "serviceaccounts", 401)
    credentials = Credentials(proxy.credentials.server, Authorization("Bearer old", renew))
    async with Api(credentials, write_permit=permit) as through:
        with pytest.raises(NotLeadingError):
            await through.create(r.SERVICE_ACCOUNTS, account("a", namespace), namespace)
    assert len(proxy.requests) == 1


async def test_a_name_cannot_lead_to_another_place(api: Api, namespace: str) -> None:
    for name in ("", ".", ".."):
        with pytest.raises(ValueError, match="not the name"):
            await api.get(r.SERVICE_ACCOUNTS, name, namespace)
    with pytest.raises(ApiError) as error:
        await api.get(r.SERVICE_ACCOUNTS, "../secrets", namespace)
    assert error.value.status in (400, 404)
    with pytest.raises(ValueError, match="namespace is needed"):
        await api.get(r.SERVICE_ACCOUNTS, "a")


async def test_after_closing_nothing_is_sent(proxy: FaultyProxy, namespace: str) -> None:
    async with Api(proxy.credentials) as through:
        await through.list(r.SERVICE_ACCOUNTS, namespace)
    with pytest.raises(ApiError) as error:
        await through.list(r.SERVICE_ACCOUNTS, namespace)
    assert error.value.reason == "Closed"
    assert not error.value.is_transient
    assert len(proxy.requests) == 1


async def test_requests_are_counted_with_their_answers(proxy: FaultyProxy, namespace: str) -> None:
    counted: list[tuple[str, str]] = []
    proxy.answer("GET", "serviceaccounts", 503)
    proxy.drop("DELETE", "serviceaccounts", times=2)  # aiohttp itself tries once more on a connection that was idle

    def count(method: str, code: str, seconds: float) -> None:
        assert seconds >= 0
        counted.append((method, code))

    async with Api(proxy.credentials, observer=count) as through:
        await through.list(r.SERVICE_ACCOUNTS, namespace)
        with pytest.raises(ApiError):
            await through.delete(r.SERVICE_ACCOUNTS, "a", namespace)
    assert counted == [("GET", "503"), ("GET", "200"), ("DELETE", "<error>"), ("DELETE", "404")]


async def test_a_refusal_by_rbac_is_told_from_other_refusals(api: Api, namespace: str) -> None:
    quota = {"metadata": {"name": "q"}, "spec": {"hard": {"count/serviceaccounts": "0"}}}
    await api.create(r.RESOURCE_QUOTAS, quota, namespace)
    await api.patch_status(r.RESOURCE_QUOTAS, "q", namespace, {"hard": {"count/serviceaccounts": "0"}})
    with pytest.raises(ApiError) as over:
        await create_until_refused(api, namespace)
    assert over.value.is_forbidden
    assert not over.value.is_permission_denied


async def create_until_refused(api: Api, namespace: str) -> None:
    """The API server takes a moment to hear of a quota."""
    for number in range(100):
        await api.create(r.SERVICE_ACCOUNTS, account(f"a{number}", namespace), namespace)
        await asyncio.sleep(0.1)
