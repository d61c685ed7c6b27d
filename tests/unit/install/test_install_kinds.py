"""Which kinds an installation waits for."""

from claude_sandbox.install.crds import CRDS
from claude_sandbox.install.manifests import Installation, render


def test_every_kind_that_is_applied_is_waited_for() -> None:
    applied = {one["metadata"]["name"] for one in render(Installation()) if one["kind"] == "CustomResourceDefinition"}
    assert set(CRDS) == applied
