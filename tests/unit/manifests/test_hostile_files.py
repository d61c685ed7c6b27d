"""Whatever is in a file, nothing ends with a traceback."""

import json

from hostile import changed
from hypothesis import given, settings
from hypothesis import strategies as st
from manifest_files import STANDARD, deployment, judged, project

from claude_sandbox.manifests.documents import Text
from claude_sandbox.manifests.fix.mend import mend

POLICY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "p", "namespace": "agents"},
    "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]},
}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "s", "namespace": "agents"},
    "spec": {"selector": {}},
}
SANDBOX = {
    "apiVersion": "claudesandbox.dev/v1alpha1",
    "kind": "ClaudeSandbox",
    "metadata": {"name": "alice", "namespace": "agents"},
    "spec": {"credentials": {"apiKeySecretRef": {"name": "key"}}},
}
NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "agents", "labels": {"a": "b"}}}


@settings(deadline=None, max_examples=60)
@given(changed(deployment()), st.one_of(changed(POLICY), changed(SERVICE), changed(NAMESPACE)), changed(SANDBOX))
def test_nothing_in_a_manifest_is_a_crash(one: object, other: object, sandbox: object) -> None:
    text = "\n".join(json.dumps(each) for each in (one, other, sandbox, POLICY))
    judged(text)
    mend(Text("x", text), STANDARD)


@settings(deadline=None, max_examples=60)
@given(changed(project()))
def test_nothing_in_a_compose_file_is_a_crash(one: object) -> None:
    judged(json.dumps(one))
    mend(Text("x", json.dumps(one)), STANDARD)


@settings(deadline=None, max_examples=60)
@given(st.text(), st.sampled_from(["kind: ", "services:\n  a: ", "---\n", "- ", "{", '{"a": ', "a: &b [*b]\n"]))
def test_no_text_is_a_crash(text: str, before: str) -> None:
    judged(before + text)
    mend(Text("x", before + text), STANDARD)
