"""What `claude-sandbox check container` says of a sandbox on an engine, before the operator mends anything."""

from typing import Any

from dockerkit import Sandbox

from claude_sandbox.api.spec import Profile
from claude_sandbox.backends.docker.evidence.single_container import survey
from claude_sandbox.backends.kubernetes.evidence.single_pod import Standard
from claude_sandbox.blueprint.model import Identity, Image
from claude_sandbox.compliance.evidence.containers import Declared
from claude_sandbox.compliance.reports.containers import findings
from claude_sandbox.compliance.reports.findings import Finding


async def checked(one: Sandbox, *allowed_registries: str) -> dict[str, Finding]:
    """What is found of each control, as the engine tells it now."""

    async def declared(identity: Identity) -> dict[str, Any]:
        metadata = {"namespace": identity.namespace, "name": identity.name, "uid": identity.uid}
        return {"metadata": metadata, "spec": one.parsed.model_dump(mode="json", by_alias=True, exclude_none=True)}

    standard = Standard(
        profile=Profile.PRODUCTION, allowed_registries=allowed_registries, image=Image(one.image, None, "Never")
    )
    found = await survey(one.engine, one.names.container, standard, Declared(), declared, local=False)
    assert found is not None
    assert not found.note
    return {finding.control.id: finding for finding in findings(found.evidence)}
