"""Whether gateways can be heard: what they don't report did not happen only then."""

import time
from datetime import timedelta
from typing import Any

from claude_sandbox.backends.kubernetes.watches.watches import Watches
from claude_sandbox.kubernetes_api.informers.informer import Contact
from claude_sandbox.kubernetes_api.resources import USAGES

RECENT = timedelta(minutes=5)
NOBODY: Any = None


def watches(*, gateways: bool) -> Watches:
    return Watches(
        NOBODY,
        ("agents",),
        secrets=False,
        gateways=gateways,
        wake=lambda *_: None,
        wake_soon=lambda *_: None,
        wake_all=lambda *_: None,
        wake_users=lambda *_: None,
    )


async def test_gateways_are_heard_while_their_reports_can_be_read_and_were_lately() -> None:
    found = watches(gateways=True)
    (informer,) = (one for one in found if one.resource is USAGES)
    assert not found.hears("agents", RECENT), "nothing was read yet"
    informer.last_contact = Contact(time.monotonic(), time.time())
    assert found.hears("agents", RECENT)
    informer.readable = False
    assert not found.hears("agents", RECENT)
    informer.readable = True
    informer.last_contact = Contact(time.monotonic() - 301, time.time() - 301)
    assert not found.hears("agents", RECENT)
    assert not watches(gateways=False).hears("agents", RECENT)
