"""Whatever is in a pod, a namespace and what else they are judged by: no control raises, and texts stay plain."""

from dataclasses import replace
from typing import Any

from compliant_sandbox import compliant
from hostile import JSON, changed
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_sandbox.api.status import EvidenceSource, Result
from claude_sandbox.compliance.evidence.readings import Reading
from claude_sandbox.compliance.reports.pods import findings, measure

WORLD = compliant()
PARTS: dict[str, Any] = {
    "pod": WORLD.pod,
    "namespace": WORLD.namespace,
    "policies": WORLD.policies,
    "services": WORLD.services,
    "slices": [
        {
            "metadata": {"name": "s", "namespace": "agents", "labels": {"kubernetes.io/service-name": "s"}},
            "endpoints": [{"addresses": ["10.0.0.1"], "targetRef": {"kind": "Pod", "name": "sandbox-alice"}}],
        }
    ],
    "service_account": WORLD.service_account,
    "quotas": WORLD.quotas,
    "runtime_class": WORLD.runtime_class,
}
ANY = st.sampled_from(sorted(PARTS)).flatmap(lambda name: st.tuples(st.just(name), changed(PARTS[name]) | JSON))


@given(st.lists(ANY, min_size=1, max_size=2))
@settings(deadline=None, max_examples=120)
def test_no_object_of_a_tenants_ends_the_measurement(parts: list[tuple[str, Any]]) -> None:
    evidence = WORLD.evidence()
    for name, value in parts:
        held = tuple(value) if isinstance(PARTS[name], list) and isinstance(value, list) else value
        reading = getattr(evidence, name)
        evidence = replace(evidence, **{name: Reading(held, reading.source, reading.observed_at)})
    compliance, compliant_, isolated = measure(evidence)
    assert compliance.model_dump_json(by_alias=True).isprintable()
    assert compliant_[0] in ("True", "False", "Unknown")
    assert isolated[0] in ("True", "False", "Unknown")


def test_a_judge_that_raises_makes_its_control_unknown_and_no_other() -> None:
    evidence = WORLD.evidence()
    before = {one.control.id: one.result for one in findings(evidence)}
    broken = replace(evidence, quotas=Reading((7,), EvidenceSource.LIVE_OBJECT, evidence.now))  # type: ignore[arg-type]
    after = {one.control.id: one for one in findings(broken)}
    other = {id: one.result for id, one in after.items() if one.result is not before[id]}
    assert set(other.values()) == {Result.UNKNOWN}
    assert len(other) == 1
    (id,) = other
    assert "AttributeError in " in after[id].verdict.message
