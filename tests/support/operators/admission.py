"""A mutating webhook of a namespace's, as a service mesh or a policy engine has one."""

import base64
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.resources import Resource
from claude_sandbox.localcluster.pki.certificates import Subject, issue, new_ca

WEBHOOKS = Resource("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations", False, "")
Change = Callable[[dict[str, Any]], list[dict[str, Any]]]
"""From an object to what is changed of it, as a JSON patch."""


@asynccontextmanager
async def webhook(
    api: Api, namespace: str, directory: Path, change: Change, resource: str = "pods", group: str = ""
) -> AsyncIterator[list[bool]]:
    """Changes what is created in the namespace; for each request, whether it was a dry run."""
    asked: list[bool] = []

    async def review(request: web.Request) -> web.Response:
        review = await request.json()
        asked.append(bool(review["request"].get("dryRun")))
        patch = base64.b64encode(orjson.dumps(change(review["request"]["object"]))).decode()
        response = {"uid": review["request"]["uid"], "allowed": True, "patchType": "JSONPatch", "patch": patch}
        return web.json_response({**review, "response": response})

    now = datetime.now(UTC)
    authority = new_ca("webhooks", now)
    pair = issue(authority, Subject("webhook", server=True, names=("127.0.0.1",)), now)
    for name, content in (("crt", pair.certificate), ("key", pair.key)):
        (directory / f"webhook.{name}").write_bytes(content)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(directory / "webhook.crt", directory / "webhook.key")
    app = web.Application()
    app.router.add_post("/", review)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    hook = {
        "name": "changes.example.org",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Fail",
        "clientConfig": {
            "url": f"https://127.0.0.1:{port}/",
            "caBundle": base64.b64encode(authority.certificate).decode(),
        },
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "rules": [{"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": [resource]}],
    }
    name = f"changes-{namespace}-{resource}"
    try:
        await api.create(WEBHOOKS, {"metadata": {"name": name}, "webhooks": [hook]})
        yield asked
    finally:
        await api.delete(WEBHOOKS, name)
        await runner.cleanup()
