"""`--fix`: what fails is mended as far as a file can be, nothing else is touched, and no more is claimed."""

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from manifest_files import DIGEST, IMAGE, STANDARD, Object, agent, deployment, judged, pod_spec, project, service
from tests.api.compliance.generated_pods import generate

from claude_sandbox.api.fields.compliance import Level
from claude_sandbox.api.status import Result
from claude_sandbox.compliance.pods.pod_security import violations
from claude_sandbox.manifests.documents import Text
from claude_sandbox.manifests.fix import pods, services
from claude_sandbox.manifests.fix.mend import Mended, mend
from claude_sandbox.manifests.judged import Judged

P, F = Result.PASS, Result.FAIL
NOT_MENDABLE = {"hostPathVolumes", "restrictedVolumes"}
"""Of the Pod Security Standards: which volumes it needs only its author knows."""


def fix(text: str, file: str = "x.yaml", level: Level = Level.SANDBOX) -> Mended:
    return mend(Text(file, text, "/srv/p"), replace(STANDARD, declared=replace(STANDARD.declared, level=level)))


def results(text: str) -> dict[tuple[str, str], Result]:
    return {(name_of(one), each.control.id): each.result for one in judged(text).judged for each in one.findings}


def name_of(one: Judged) -> str:
    return f"{one.target['kind']} {'/'.join(one.target[key] for key in ('namespace', 'name') if key in one.target)}"


def holds(text: str, level: Level = Level.SANDBOX) -> Mended:
    """What holds of every file that is mended."""
    found = fix(text, level=level)
    again = fix(found.text, level=level)
    assert again.text == found.text
    assert again.changes == ()
    before, now = results(text), results(found.text)
    assert before.keys() == now.keys()
    worse = {key for key, result in now.items() if result is F and before[key] is P}
    assert worse == set()
    for change in found.changes:
        assert (now[change.target, change.control] is P) is change.mended
        assert change.mended or change.why
    left = {(one.target, one.control) for one in found.left}
    required = {
        (name_of(one), each.control.id)
        for one in found.outcome.judged
        for each in one.findings
        if each.required and each.result is F
    }
    assert left == required
    return found


def _bad_pod(chance: random.Random) -> Object:
    """A Deployment with any of what the Pod Security Standards and the other controls look at."""
    one, generated = deployment(), generate(chance.randrange(10**6))
    spec = {**pod_spec(one), **generated["spec"]}
    one["spec"]["template"] = {"metadata": {"labels": {"app": "agent"}, **generated.get("metadata", {})}, "spec": spec}
    one["spec"]["template"]["metadata"].pop("name", None)
    # A manifest has none: they are added to what runs.
    spec.pop("ephemeralContainers", None)
    for container in spec["containers"]:
        container.setdefault("image", IMAGE)
        container["resources"] = chance.choice([{}, {"requests": {"memory": "3Gi"}}, {"limits": {"cpu": "2"}}])
    spec.update(chance.choice([{}, {"shareProcessNamespace": True}, {"automountServiceAccountToken": True}]))
    return one


@pytest.mark.parametrize("seed", range(60))
def test_a_mended_pod_is_what_the_restricted_standard_asks_for_but_for_its_volumes(seed: int) -> None:
    text = yaml.safe_dump(_bad_pod(random.Random(seed)))  # noqa: S311
    if judged(text).problems or "windows" in text:
        return
    found = holds(text)
    template = yaml.safe_load(found.text)["spec"]["template"]
    pod = {"metadata": template.get("metadata", {}), "spec": template["spec"]}
    for minor in (34, 37):
        assert {one.check_id for one in violations(pod, "restricted", minor)} <= NOT_MENDABLE


SERVICES = st.fixed_dictionaries(
    {"image": st.sampled_from(["x", IMAGE])},
    optional={
        "privileged": st.booleans(),
        "cap_drop": st.lists(st.sampled_from(["ALL", "NET_RAW"]), unique=True),
        "cap_add": st.lists(st.sampled_from(["SYS_ADMIN", "NET_BIND_SERVICE", "ALL"]), unique=True),
        "security_opt": st.lists(
            st.sampled_from(
                ["no-new-privileges", "no-new-privileges:false", "seccomp:unconfined", "seccomp=x.json",
                 "label:disable", "label=type:spc_t", "apparmor=unconfined", "systempaths=unconfined", "label:user:x"]
            ),
            unique=True,
        ),
        "user": st.sampled_from(["root", "0", "1000", "node", "1000:0", "0:0", 1000, "1000:1000", "${UID}"]),
        "group_add": st.lists(st.sampled_from(["docker", 0, 999, "1000", 2000]), unique=True),
        "pid": st.sampled_from(["host", "service:x"]),
        "ipc": st.sampled_from(["host", "private", "shareable"]),
        "uts": st.just("host"),
        "cgroup": st.sampled_from(["host", "private"]),
        "network_mode": st.sampled_from(["host", "none", "service:x"]),
        "sysctls": st.sampled_from([["kernel.msgmax=1"], {"kernel.msgmax": 1, "net.ipv4.tcp_syncookies": 1}]),
        "ports": st.lists(
            st.sampled_from(["80", "8080:80", "127.0.0.1:8080:80", "0.0.0.0:22:22/udp", "[::]:9000:9000", 3000,
                             {"target": 80, "published": "8080"}, {"target": 1, "host_ip": "127.0.0.1"}]),
        ),
        "read_only": st.booleans(),
        "tmpfs": st.sampled_from(["/tmp", "/tmp:size=0,suid", ["/tmp:size=1m", "/run:dev"], []]),
        "volumes": st.lists(
            st.sampled_from(["/etc:/e", "x:/x", {"type": "tmpfs", "target": "/t"},
                             {"type": "bind", "source": "/srv", "target": "/s", "bind": {"propagation": "shared"}}]),
        ),
        "mem_limit": st.sampled_from(["1g", 0]),
        "cpus": st.sampled_from([0, 1.5]),
        "pids_limit": st.sampled_from([-1, 0, 100]),
        "deploy": st.sampled_from(
            [{"resources": {"limits": {"memory": "1g"}}}, {"resources": {"limits": {"cpus": "0"}}}, {"replicas": 2}]
        ),
        "logging": st.sampled_from([{}, {"driver": "json-file"}, {"driver": "local", "options": {"max-size": "-1"}},
                                    {"driver": "json-file", "options": {"max-file": 3, "tag": "x"}},
                                    {"driver": "syslog", "options": {"syslog-address": "udp://192.0.2.1"}}]),
        "ulimits": st.sampled_from([{"nofile": -1}, {"core": 0}, {"nofile": {"soft": 1, "hard": 2}}, {"core": -1}]),
    },
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(SERVICES, st.sampled_from([Level.SANDBOX, Level.HARDENED]))
def test_a_mended_service_passes_what_it_is_said_to_pass(one: Object, level: Level) -> None:
    holds(yaml.safe_dump({"services": {"agent": one}}), level)


def _bare_pod() -> Object:
    spec: Object = {"containers": [{"name": "agent", "image": IMAGE, "securityContext": {"privileged": True}}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "agent"}, "spec": spec}


def test_every_control_that_can_be_mended_is_seen_mended() -> None:
    seen: dict[str, set[str]] = {"ComposeService": set(), "Deployment": set()}
    context = {
        "appArmorProfile": {"type": "Unconfined"}, "seLinuxOptions": {"type": "spc_t"}, "procMount": "Unmasked",
        "privileged": True, "runAsUser": 0, "seccompProfile": {"type": "Unconfined"},
    }  # fmt: skip
    one = deployment()
    pod_spec(one).update(hostPID=True, hostIPC=True, hostNetwork=True, shareProcessNamespace=True, securityContext={
        "sysctls": [{"name": "kernel.msgmax", "value": "1"}]})  # fmt: skip
    pod_spec(one).pop("automountServiceAccountToken")
    pod_spec(one)["volumes"][1]["emptyDir"] = {}
    agent(one).update(securityContext=context, resources={}, ports=[{"containerPort": 80, "hostPort": 80}])
    agent(one)["livenessProbe"] = {"httpGet": {"port": 80, "host": "192.0.2.1"}}
    agent(one)["volumeMounts"][0]["mountPropagation"] = "Bidirectional"
    two = project()
    two["services"]["agent"] = {
        "image": IMAGE, "privileged": True, "pid": "host", "ipc": "host", "network_mode": "host", "uts": "host",
        "security_opt": ["seccomp=unconfined", "apparmor=unconfined", "label=disable", "systempaths=unconfined"],
        "sysctls": ["kernel.msgmax=1"], "tmpfs": "/x", "user": "0", "group_add": [0],
        "ulimits": {"nofile": -1}, "ports": ["80:8080"], "logging": {"driver": "json-file"},
        "volumes": [{"type": "bind", "source": "/srv/x", "target": "/x", "bind": {"propagation": "shared"}}],
    }  # fmt: skip
    for text in (yaml.safe_dump(one), yaml.safe_dump(two)):
        found = holds(text, Level.HARDENED)
        for change in found.changes:
            if change.mended:
                seen[change.target.split()[0]].add(change.control)
    # Of a pod the node has the last word on groups; of ports on the loopback address the engine's version.
    assert pods.MENDS.keys() - seen["Deployment"] == {"PRIV-05"}
    assert services.MENDS.keys() - seen["ComposeService"] <= {"KERN-02", "KERN-03", "NS-06"}


COMMENTED = """\
# What the team runs.
apiVersion: apps/v1
kind: Deployment   # one of three
metadata:
    name: "web"
    annotations: {a: 'b', mode: "0440"}

spec:
    template:
        spec:
            containers:
                # the only one
                - name: web
                  image: nginx   # pinned elsewhere
                  args: [{a: b}, yes, 0440, 1_000, 22:22]
                  command:
                      - |
                        multi
                          line
"""


def test_comments_quotes_order_and_indentation_stay() -> None:
    found = fix(COMMENTED)
    lines = found.text.splitlines()
    remaining = iter(lines)
    assert [line for line in COMMENTED.splitlines() if line not in remaining] == []
    assert len(found.changes) > 5


def test_what_needs_no_change_stays_as_it_is_to_the_byte() -> None:
    other = "\n---\n#  odd   spacing\nkind:   ConfigMap\napiVersion: v1\ndata: {a:   b}\n\n\n"
    broken = "---\na: b: c\n"
    text = other + broken + "---\n" + yaml.safe_dump(_bare_pod())
    mended = fix(text).text
    assert mended.startswith((other + broken).lstrip("\n"))
    assert "privileged" not in mended
    good = "# x\n" + yaml.safe_dump(project())
    assert fix(good).text == good


def test_items_of_lists_and_json_are_mended_in_place() -> None:
    items = {"apiVersion": "v1", "kind": "List", "items": [{"kind": "X"}, _bare_pod()]}
    mended = json.loads(fix(json.dumps(items)).text)
    assert mended["items"][0] == {"kind": "X"}
    assert mended["items"][1]["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] is False
    several = json.dumps(_bare_pod()) + "\n" + json.dumps({"kind": "X"})
    assert "privileged" not in fix(several).text


def test_what_is_merged_from_elsewhere_is_mended_where_it_is_used() -> None:
    text = (
        "x-base: &base\n  privileged: true\n  image: x\nservices:\n  agent:\n    <<: *base\n"
        "  other:\n    <<: *base\n    privileged: false\n"
    )
    found = holds(text)
    assert {"PRIV-01"} <= {one.control for one in found.changes if one.mended}
    assert "<<: *base" in found.text


def test_windows_line_ends_stay() -> None:
    text = yaml.safe_dump(_bare_pod()).replace("\n", "\r\n")
    mended = fix(text).text
    assert mended.count("\n") == mended.count("\r\n") > 5


def test_a_limit_is_what_is_requested_where_that_is_said() -> None:
    one = deployment()
    agent(one)["resources"] = {"requests": {"memory": "3Gi", "cpu": "250m"}}
    limits = agent(yaml.safe_load(fix(yaml.safe_dump(one)).text))["resources"]["limits"]
    assert limits == {"memory": "3Gi", "cpu": "250m"}


def test_a_log_is_bounded_by_options_of_its_own_driver_and_another_driver_is_left() -> None:
    one = project()
    agent_options: tuple[Object, ...] = ({}, {"options": {"max-file": 3}})
    for options in agent_options:
        one["services"]["agent"]["logging"] = {"driver": "json-file", **options}
        found = yaml.safe_load(fix(yaml.safe_dump(one), level=Level.HARDENED).text)["services"]["agent"]["logging"]
        assert found == {"driver": "json-file", "options": {**options.get("options", {}), "max-size": "10m"}}
    one["services"]["agent"]["logging"] = {"driver": "syslog"}
    assert fix(yaml.safe_dump(one), level=Level.HARDENED).changes == ()


def _numbers() -> Iterator[Any]:
    yield from ({"mem_limit": "1g"}, {"deploy": {"resources": {"limits": {"cpus": "1"}}}})


@pytest.mark.parametrize("given", _numbers())
def test_limits_of_a_service_are_never_said_in_two_ways(given: Object) -> None:
    one = project()
    for key in ("mem_limit", "cpus", "pids_limit"):
        del service(one)[key]
    service(one).update(given)
    mended = yaml.safe_load(fix(yaml.safe_dump(one)).text)["services"]["agent"]
    limits = mended.get("deploy", {}).get("resources", {}).get("limits", {})
    for key, below in (("mem_limit", "memory"), ("cpus", "cpus"), ("pids_limit", "pids")):
        assert (key in mended) != (below in limits)


def test_a_user_with_a_name_is_left_since_the_image_says_who_that_is() -> None:
    one = project()
    service(one)["user"] = "node"
    assert yaml.safe_load(fix(yaml.safe_dump(one)).text)["services"]["agent"]["user"] == "node"


def test_what_can_not_be_mended_is_left_with_its_remedy() -> None:
    one = project()
    service(one)["volumes"].append("/var/run/docker.sock:/s")
    service(one)["image"] = f"x@{DIGEST}"
    left = {each.control: each for each in fix(yaml.safe_dump(one)).left}
    assert {"FS-03"} <= left.keys()
    assert all(each.remedy and each.message for each in left.values())
