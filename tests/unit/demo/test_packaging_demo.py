"""The demo's decisions, and what it hands to other programs: which are recorded by programs that stand in for them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from claude_sandbox.demo import at_work, clusters, flow, kind, report, sandbox, stand_in_pod
from claude_sandbox.demo.clusters import Target
from claude_sandbox.demo.narrator import Narrator
from claude_sandbox.demo.place import Place
from claude_sandbox.demo.provider import CLAUDE_API, Provider, StandIn
from claude_sandbox.install.errors import SetupError
from claude_sandbox.install.kubectl import Kubectl
from claude_sandbox.install.waiting import wait
from claude_sandbox.localcluster.images import ImageArchive

IMAGE = ImageArchive(Path("/images/operator.tar"), "claudesandbox.dev/operator:0.1.0", "sha256:" + "a" * 64)
KEY = "sk-ant-api03-a-key-that-must-not-be-seen"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that alone is searched for kind, docker and kubectl, and keeps what they were called with."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return directory


Program = Callable[[str, str], Path]


@pytest.fixture
def program(path: Path) -> Program:
    def make(name: str, body: str) -> Path:
        file = path / name
        file.write_text(f'#!/bin/sh\necho "{name} $*" >> {path}/calls\n{body}\n')
        file.chmod(0o755)
        return file

    return make


def calls(path: Path) -> list[str]:
    file = path / "calls"
    return file.read_text().splitlines() if file.exists() else []


def kind_of(version: str, clusters: str = "", nodes: str = "node-1 node-2") -> str:
    return f'case "$*" in version) echo "kind {version} go1.22 linux/amd64";; "get clusters") echo "{clusters}";;'\
        f' "get nodes"*) echo "{nodes}";; esac'  # fmt: skip


def test_kind_makes_a_cluster_by_the_committed_configuration(path: Path, program: Program) -> None:
    program("kind", kind_of("v0.30.0"))
    program("docker", "")
    assert kind.usable(print)
    kubeconfig = kind.up(print)
    (created,) = (call for call in calls(path) if call.startswith("kind create"))
    config = created.split("--config ")[1].split()[0]
    assert "podPidsLimit" in Path(config).read_text()
    assert f"--kubeconfig {kubeconfig}" in created
    assert Path(kubeconfig).parent.is_dir()


def test_a_kind_cluster_that_is_there_is_used_again(path: Path, program: Program) -> None:
    program("kind", kind_of("v0.24.0", clusters=kind.NAME))
    program("docker", "")
    kind.up(print)
    assert not any("create" in call for call in calls(path))


def test_kind_without_an_engine_is_not_used(program: Program) -> None:
    program("kind", kind_of("v0.30.0"))
    program("docker", "exit 1")
    said: list[str] = []
    assert not kind.usable(said.append)
    assert "no Docker Engine" in said[0]


@pytest.mark.parametrize("version", ["v0.23.0", "v0.9.1", "something"])
def test_a_kind_that_enforces_no_policies_is_refused(program: Program, version: str) -> None:
    program("kind", kind_of(version))
    program("docker", "")
    with pytest.raises(SetupError, match="does not enforce NetworkPolicies") as caught:
        kind.usable(print)
    assert "0.24" in caught.value.remedy


def test_every_node_of_kind_gets_the_image_by_digest(path: Path, program: Program) -> None:
    program("kind", kind_of("v0.30.0"))
    program("docker", "")
    kind.load("some", IMAGE)
    assert f"kind load image-archive {IMAGE.path} --name some" in calls(path)
    tagged = [call for call in calls(path) if " tag " in call]
    assert [call.split()[2] for call in tagged] == ["node-1", "node-2"]
    assert all(call.endswith(f"{IMAGE.reference} {IMAGE.pinned}") for call in tagged)


def test_an_image_that_the_nodes_have_is_not_loaded_again(path: Path, program: Program) -> None:
    program("kind", kind_of("v0.30.0"))
    program("docker", f"echo {IMAGE.pinned}")
    kind.load("some", IMAGE)
    assert not any("load" in call for call in calls(path))


def test_what_kind_says_when_it_fails_is_passed_on(program: Program) -> None:
    program("kind", 'case "$*" in *clusters) ;; *) echo "no space left on device" >&2; exit 1;; esac')
    with pytest.raises(SetupError, match="no space left on device"):
        kind.up(print)


def test_what_kubectls_library_logs_hides_nothing_of_what_kubectl_says(program: Program) -> None:
    logged = 'E1201 05:23:39.661399   12441 memcache.go:265] "Unhandled Error" err="refused"'
    said = "The connection to the server 127.0.0.1:1 was refused"
    kubectl = Kubectl(program("kubectl", f"echo '{logged}' >&2; echo '{logged}' >&2; echo '{said}' >&2; exit 1"))
    with pytest.raises(SetupError) as told:
        kubectl.run("get", "nodes")
    assert told.value.message == f"kubectl get nodes: {said}"


def test_a_kubeconfig_that_was_named_goes_before_kind(path: Path, program: Program) -> None:
    program("kind", kind_of("v0.30.0"))
    program("docker", "")
    kubectl = program(
        "kubectl", 'case "$*" in *current-context) echo mine;; *view*) echo https://192.0.2.1:6443;; esac'
    )
    said: list[str] = []
    file = path / "kubeconfig"
    file.touch()
    target = clusters.choose(str(file), None, kubectl, said.append)
    assert target.kubeconfig == str(file)
    assert target.load is None
    assert said == [f"Using the context 'mine' of {file}: https://192.0.2.1:6443"]
    assert not any(call.startswith("kind") for call in calls(path))


def test_a_kubeconfig_that_is_not_there_is_told_with_the_remedy(path: Path) -> None:
    with pytest.raises(SetupError, match=r"no kubeconfig /not/there") as caught:
        clusters.choose("/not/there", None, path / "kubectl", print)
    assert "unset KUBECONFIG" in caught.value.remedy


def test_a_default_kubeconfig_is_not_taken_as_a_wish(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube/config").write_text("{}")
    assert clusters.named(None) is None
    monkeypatch.setenv("KUBECONFIG", "")
    assert clusters.named(None) is None
    monkeypatch.setenv("KUBECONFIG", "/a/file")
    assert clusters.named(None) == "/a/file"
    assert clusters.named("/another") == "/another"


def test_a_context_alone_names_no_cluster(path: Path) -> None:
    with pytest.raises(SetupError) as caught:
        clusters.choose(None, "production", path / "kubectl", print)
    assert "--kubeconfig" in caught.value.remedy


def test_a_cluster_elsewhere_needs_images_from_a_registry(program: Program) -> None:
    target = Target(Kubectl(program("kubectl", "")), "/some/kubeconfig", None)
    options = flow.Options(operator_image="registry.example.com/operator:1")
    with pytest.raises(SetupError, match="no registry has") as caught:
        flow._images(options, target, Narrator())
    assert "--sandbox-image" in caught.value.remedy
    assert "--operator-image" not in caught.value.remedy
    both = flow.Options(operator_image="example.com/operator:1", sandbox_image="example.com/sandbox:2")
    assert flow._images(both, target, Narrator()) == {
        "operator": "example.com/operator:1",
        "sandbox": "example.com/sandbox:2",
    }


def test_the_key_is_on_no_command_line_and_in_no_output(
    path: Path, program: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    kubectl = Kubectl(program("kubectl", f'case "$*" in apply*) cat > {path}/applied;; esac'))
    sandbox.secret(kubectl, KEY, print)
    assert KEY not in "\n".join(calls(path))
    assert KEY not in "".join(capsys.readouterr())
    (applied,) = json.loads((path / "applied").read_text())["items"]
    assert applied["type"] == "claudesandbox.dev/api-key"


def test_an_api_server_that_repeats_the_key_does_not_leak_it(program: Program) -> None:
    kubectl = Kubectl(program("kubectl", f'case "$*" in apply*) cat >&2; echo "{KEY}" >&2; exit 1;; esac'))
    with pytest.raises(SetupError) as caught:
        sandbox.secret(kubectl, KEY, print)
    told = f"{caught.value.message} {caught.value.remedy} {caught.value!r}"
    assert KEY not in told
    assert "c2stYW50" not in told  # its beginning in base64
    assert caught.value.__cause__ is None


def test_without_a_key_an_existing_secret_is_left_alone(path: Path, program: Program) -> None:
    kubectl = Kubectl(program("kubectl", 'case "$*" in get*) echo secret/anthropic-api-key;; esac'))
    sandbox.secret(kubectl, None, print)
    assert not any("apply" in call for call in calls(path))


def test_without_a_key_the_placeholder_is_told(path: Path, program: Program) -> None:
    kubectl = Kubectl(program("kubectl", ""))
    said: list[str] = []
    sandbox.secret(kubectl, None, said.append)
    assert "placeholder" in " ".join(said)
    assert any("apply" in call for call in calls(path))


@pytest.mark.parametrize(
    ("classes", "workspace"), [(["true"], None), (["false"], {"type": "EmptyDir"}), ([], {"type": "EmptyDir"})]
)
def test_the_workspace_needs_no_storage_that_the_cluster_lacks(
    path: Path, program: Program, classes: list[str], workspace: dict[str, str] | None
) -> None:
    annotation = "storageclass.kubernetes.io/is-default-class"
    items = [{"metadata": {"annotations": {annotation: value}}} for value in classes]
    body = f"case \"$*\" in get*) echo '{json.dumps({'items': items})}';; apply*) cat > {path}/applied;; esac"
    sandbox.sandbox(Kubectl(program("kubectl", body)), "allowed.example.com", None, print)
    (applied,) = json.loads((path / "applied").read_text())["items"]
    assert applied["spec"].get("workspace") == workspace
    assert applied["spec"]["credentials"]["delivery"] == "Brokered"
    assert applied["spec"]["network"]["egress"] == {"allowedDomains": ["allowed.example.com"]}


def test_waiting_ends_when_there_is_nothing_left_to_wait_for() -> None:
    states = iter(["a", "b", None])
    assert wait(lambda: next(states), print, limit=60, pause=0)


def test_waiting_ends_when_it_took_too_long() -> None:
    assert not wait(lambda: "never", print, limit=0.02, pause=0.001)


MARKED = "*component=placeholder*"


@pytest.mark.parametrize(
    ("secrets", "key", "stand_in"),
    [
        pytest.param("", None, True, id="the first run, without a key"),
        pytest.param("", KEY, False, id="the first run, with a key"),
        pytest.param("echo secret/anthropic-api-key", None, True, id="there is the demo's placeholder"),
        pytest.param("echo secret/anthropic-api-key", KEY, False, id="a key takes the placeholder's place"),
        pytest.param(
            f'case "$*" in {MARKED}) ;; *) echo secret/anthropic-api-key;; esac', None, False, id="there may be a key"
        ),
    ],
)
def test_what_may_be_a_key_goes_to_the_claude_api_and_to_nobody_else(
    program: Program, monkeypatch: pytest.MonkeyPatch, secrets: str, key: str | None, stand_in: bool
) -> None:
    kubectl = Kubectl(program("kubectl", f'case "$*" in "get secrets"*) {secrets or ":"};; esac'))
    other = Provider("allowed.example.com", "", StandIn("http://10.0.0.1", "10.0.0.1"))
    monkeypatch.setattr(stand_in_pod, "up", lambda *_: other)
    assert flow._provider(kubectl, "operator:1", key, Narrator()) == (other if stand_in else CLAUDE_API)


def test_the_secret_says_whether_a_key_was_ever_in_it(path: Path, program: Program) -> None:
    kubectl = Kubectl(program("kubectl", f'case "$*" in apply*) cat > {path}/applied;; esac'))
    for key, marked in ((None, True), (KEY, False)):
        sandbox.secret(kubectl, key, print)
        (applied,) = json.loads((path / "applied").read_text())["items"]
        assert ("app.kubernetes.io/component" in applied["metadata"]["labels"]) == marked


IDENTITY = "a-token-for-the-gateway-only"


def place(held: str) -> Place:
    return Place(lambda *argv: (0, IDENTITY if argv[0] == "cat" else held), "kubectl exec")


def test_a_key_in_the_sandbox_is_told_and_ends_the_demo() -> None:
    assert "is not in the sandbox" in at_work.without_key(place(f"PATH=/bin\n{IDENTITY}\n"), (KEY,)).replace("\n", " ")
    for keys in ((KEY,), ("placeholder", "sk-ant-")):
        with pytest.raises(SetupError, match="is in the sandbox") as caught:
            at_work.without_key(place(f"PATH=/bin\n{IDENTITY}\nKEY={KEY}\n"), keys)
        assert KEY not in f"{caught.value!r} {caught.value.remedy}"
    with pytest.raises(SetupError, match="The token for git of the Secret is in the sandbox") as caught:
        at_work.without_key(place(f"{IDENTITY}\nurl = https://x:{KEY}@git.example.com/\n"), ("placeholder",), (KEY,))
    assert KEY not in f"{caught.value!r} {caught.value.remedy}"


def test_that_nothing_could_be_read_is_not_taken_for_no_key() -> None:
    for held in ("", "PATH=/bin\n"):
        with pytest.raises(SetupError, match="could not be looked through"):
            at_work.without_key(place(held), (KEY,))


def condition(kind: str, status: str, reason: str = "Reason") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": "why"}


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([condition("Ready", "True"), condition("Compliant", "True")], None),
        (
            [condition("Ready", "False", "PodPending"), condition("Compliant", "True")],
            "Ready is False: PodPending: why",
        ),
        ([condition("Ready", "True"), condition("Compliant", "Unknown", "X")], "Compliant is Unknown: X: why"),
        ([condition("Ready", "True")], "Compliant is Unknown: not reported yet"),
    ],
)
def test_a_sandbox_is_done_when_it_is_ready_and_compliant(
    conditions: list[dict[str, str]], expected: str | None
) -> None:
    found = {"metadata": {"generation": 2}, "status": {"observedGeneration": 2, "conditions": conditions}}
    assert report.progress(found) == expected


def test_conditions_of_an_earlier_generation_do_not_count() -> None:
    conditions = [condition("Ready", "True"), condition("Compliant", "True")]
    found = {"metadata": {"generation": 2}, "status": {"observedGeneration": 1, "conditions": conditions}}
    assert report.progress(found) == "The operator has not looked at the sandbox yet."
    assert report.progress(None) == "The sandbox is not there."
