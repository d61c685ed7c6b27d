"""`claude-sandbox machine` on a machine that systemd runs, from its installation to its end.

The tests are the life of one installation, in order.
"""

import re
import shutil
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from dockerkit import counted
from machinekit import ADMIN, COMMAND, KEY, Installed, comes, files, images

from claude_sandbox.api import meta
from claude_sandbox.localcluster.images import ImageArchive
from claude_sandbox.localcluster.pki.certificates import issue
from claude_sandbox.localcluster.pki.pki import Files, read
from claude_sandbox.machine import keys
from claude_sandbox.machine.places import Places

pytestmark = [pytest.mark.controlplane, pytest.mark.engine, pytest.mark.timeout(600)]

UNITS = [f"claude-sandbox-{name}.service" for name in ("etcd", "apiserver", "controllers", "operator", "daily")]
# What `systemd-analyze security` says of exposure, from 0 to 10, at the most. The operator has a group, sees other
# processes and may speak to other machines; maintenance is root's.
EXPOSURE = {"etcd": 1.0, "apiserver": 1.0, "controllers": 1.0, "operator": 1.6, "daily": 5.5}


def test_all_is_well_once_it_is_installed(installed: Installed) -> None:
    said = installed.command("status")
    assert said.count(" yes ") >= 8, said
    assert "DockerHost local: EngineReady" in said


def test_systemd_has_nothing_to_say_against_the_units(installed: Installed) -> None:
    done = installed.machine.run("systemd-analyze", "verify", "--man=no", *UNITS, "claude-sandbox-daily.timer")
    assert done.stdout == ""


@pytest.mark.parametrize("name", EXPOSURE)
def test_a_service_is_exposed_no_more_than_it_must_be(installed: Installed, name: str) -> None:
    said = installed.machine.out("systemd-analyze", "security", "--no-pager", f"claude-sandbox-{name}.service")
    level = re.search(r"Overall exposure level.*: ([\d.]+)", said)
    assert level is not None
    assert float(level[1]) <= EXPOSURE[name], said


def test_what_runs_has_neither_root_nor_capabilities_nor_groups_but_dockers(installed: Installed) -> None:
    docker = installed.machine.out("getent", "group", "docker").split(":")[2]
    users = set()
    for name, pid in installed.pids().items():
        status = installed.machine.out("cat", f"/proc/{pid}/status")
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        uid, gid = fields["Uid"].split()[0], fields["Gid"].split()[0]
        assert uid != "0"
        assert fields["CapEff"] == fields["CapBnd"] == "0000000000000000"
        assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
        assert set(fields["Groups"].split()) - {gid} == ({docker} if name == "operator" else set())
        users.add(uid)
    assert len(users) == 4


def test_nothing_listens_beyond_the_machines_own_address(installed: Installed) -> None:
    listening = []
    for table in ("tcp", "tcp6"):
        for line in installed.machine.out("cat", f"/proc/net/{table}").splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            if state == "0A":
                address, port = local.split(":")
                listening.append((address, int(port, 16)))
    # 127.0.0.1, in the machine's byte order.
    assert sorted(listening) == [("0100007F", port) for port in (6443, 6444, 6445, 6446, 6447)]


def test_keys_are_roots_alone(installed: Installed) -> None:
    said = installed.machine.out("find", "/etc/claude-sandbox", "-printf", "%U %m %y\n")
    assert set(said.splitlines()) == {"0 700 d", "0 600 f"}


def test_the_operator_may_do_what_its_manifests_say_and_no_more(installed: Installed) -> None:
    own = "/etc/claude-sandbox/operator.kubeconfig"

    def may(*what: str) -> bool:
        # Warnings come first.
        said = installed.kubectl("auth", "can-i", *what, user=own, check=False).split()
        assert said[-1] in ("yes", "no"), said
        return said[-1] == "yes"

    assert may("list", "claudesandboxes", "--all-namespaces")
    assert may("patch", "dockerhosts", "--subresource=status")
    assert not may("create", "dockerhosts")
    assert not may("update", "secrets", "--all-namespaces")
    assert not may("delete", "namespaces")
    assert not may("create", "clusterrolebindings")
    assert not may("*", "*")


def test_a_sandbox_that_is_applied_runs(installed: Installed) -> None:
    found = installed.sandbox("alice")
    assert found["status"]["placement"]["host"] == "local"
    assert installed.container("alice")["State"]["Running"]


def test_what_happened_to_it_is_in_the_audit_trail_and_the_journal_and_can_be_verified(installed: Installed) -> None:
    command = "/usr/local/lib/claude-sandbox/bin/claude-sandbox"
    directory, key = "/var/lib/claude-sandbox/trail", "/etc/claude-sandbox/trail-public-key.pem"
    comes(
        lambda: "ResultsChanged" in installed.machine.out(command, "trail", "show", directory), "results are recorded"
    )
    assert "SandboxCreated" in installed.machine.out(command, "trail", "show", directory)
    journal = f"journalctl --unit claude-sandbox-operator --output cat > /tmp/copied && {command} trail verify"
    said = installed.machine.out("sh", "-c", f"{journal} {directory} --public-key {key} --checkpoint /tmp/copied")
    assert "Nothing is wrong." in said
    assert "Of the lines that were kept elsewhere 0" not in said


def test_somebody_works_in_it_who_has_neither_the_engine_nor_roots_files(installed: Installed) -> None:
    installed.kubectl("create", "serviceaccount", "bob", "--namespace=agents")
    role = ("--clusterrole=claudesandbox-worker", "--serviceaccount=agents:bob")
    installed.kubectl("create", "rolebinding", "bob", "--namespace=agents", *role)
    config = yaml.safe_load(installed.machine.file(ADMIN).read_text())
    token = installed.kubectl("create", "token", "bob", "--namespace=agents").strip()
    config["users"] = [{"name": one["name"], "user": {"token": token}} for one in config["users"]]
    own = installed.machine.file("/etc/bob.kubeconfig")
    own.write_text(yaml.safe_dump(config))
    own.chmod(0o644)
    try:
        nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "HOME=/")
        asked = ("shell", "--kubeconfig=/etc/bob.kubeconfig", "agents/alice", "--", "id", "-u")
        assert installed.machine.out(*nobody, COMMAND, *asked) == "1000"
    finally:
        own.unlink()
        installed.kubectl("delete", "rolebinding/bob", "serviceaccount/bob", "--namespace=agents")


def test_all_of_it_comes_back_with_the_machine_and_without_the_clone_and_the_cache(installed: Installed) -> None:
    before, ran = installed.get(meta.PLURAL, "alice"), installed.container("alice")
    shared = installed.machine.shared
    mine = {source: place for source, place in shared.items() if place.startswith("opt/")}
    for source in mine:
        del shared[source]
    installed.machine.reboot()
    try:
        assert not list(installed.machine.file("/opt/project").iterdir())
        installed.all_well()
        assert installed.well("alice")["metadata"]["uid"] == before["metadata"]["uid"]
        # Nobody touched the container.
        assert installed.container("alice")["State"]["StartedAt"] == ran["State"]["StartedAt"]
    finally:
        shared |= mine
        installed.machine.reboot()
    installed.all_well()


@pytest.mark.parametrize("name", ["etcd", "apiserver", "controllers", "operator"])
def test_a_service_that_is_killed_comes_back(installed: Installed, name: str) -> None:
    pid = installed.pids()[name]
    installed.machine.run("kill", "-KILL", pid)
    comes(lambda: installed.pids()[name] not in ("0", pid))
    installed.all_well()


def test_the_api_key_is_neither_in_etcds_files_nor_in_a_backup(installed: Installed, tmp_path: Path) -> None:
    word = "a-word-that-is-no-secret-314159"
    installed.kubectl("create", "configmap", "control", "--namespace=agents", f"--from-literal=word={word}")
    data = installed.machine.file("/var/lib/private/claude-sandbox/etcd")
    # The search finds what is there in clear.
    assert holds(data, word)
    assert not holds(data, KEY)
    archive = backed_up(installed)
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    assert holds(tmp_path, word)
    assert not holds(tmp_path, KEY)
    # The API server has it, for those that may ask.
    assert installed.get("secret", "alice")["data"]


def test_a_backup_is_roots_alone_and_only_so_many_are_kept(installed: Installed, tmp_path: Path) -> None:
    place = "/var/backups/claude"
    made = [backed_up(installed, f"--to={place}", "--keep=2") for _ in range(3)]
    assert len(set(made)) == 3
    there = sorted(installed.machine.file(place).iterdir())
    assert there == sorted(made)[1:]
    assert {path.stat().st_mode & 0o777 for path in there} == {0o600}
    assert installed.machine.file(place).stat().st_mode & 0o777 == 0o700


def test_a_damaged_backup_is_refused_and_nothing_is_stopped(installed: Installed) -> None:
    archive = backed_up(installed)
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 0xFF
    damaged = installed.machine.file("/root/damaged.tar.gz")
    damaged.write_bytes(content)
    before = installed.pids()
    said = installed.command("restore", "--yes", "/root/damaged.tar.gz", check=False)
    damaged.unlink()
    assert "can't be restored" in said
    assert "Nothing was changed" in said
    assert installed.pids() == before


def test_a_restore_brings_everything_back_and_touches_no_container(installed: Installed) -> None:
    before, ran = installed.well("alice"), installed.container("alice")
    archive = backed_up(installed)
    # What happens since then: one sandbox's resource is lost while the operator is away, another is made.
    later = installed.sandbox("later")
    installed.machine.run("systemctl", "stop", "claude-sandbox-operator.service")
    installed.kubectl("patch", meta.PLURAL, "alice", "--namespace=agents", "--type=merge",
                      "--patch", '{"metadata":{"finalizers":null}}')  # fmt: skip
    installed.kubectl("delete", meta.PLURAL, "alice", "--namespace=agents")
    installed.command("restore", "--yes", f"/{archive.relative_to(installed.machine.root)}")
    installed.all_well()
    after = installed.well("alice")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["workload"] == before["status"]["workload"]
    assert installed.container("alice")["State"]["StartedAt"] == ran["State"]["StartedAt"]
    assert installed.get("secret", "alice")["data"]
    # The other is unknown now, and what it had is collected.
    assert installed.get(meta.PLURAL, "later") == {}
    name = later["status"]["workload"]["name"]
    comes(lambda: not any(name in one for one in counted(installed.engine)["containers"]))


def test_a_backup_with_workspaces_brings_back_what_the_engine_has_lost_and_leaves_what_it_has(
    installed: Installed,
) -> None:
    installed.sandbox("bob")
    for name in ("alice", "bob"):
        installed.exec(name, "sh", "-c", f"echo of {name} >/workspace/kept && chmod 750 /workspace/kept")
    archive = backed_up(installed, "--workspaces")
    assert archive.stat().st_mode & 0o777 == 0o600
    installed.exec("alice", "sh", "-c", "echo newer >/workspace/kept")
    installed.machine.run("systemctl", "stop", "claude-sandbox-operator.service")
    lost = installed.lose("bob")
    said = installed.command("restore", "--yes", f"/{archive.relative_to(installed.machine.root)}")
    assert "is back" in said
    assert "is left as it is" in said
    installed.all_well()
    # Until the operator has looked, the status tells of what there was.
    comes(lambda: (installed.get(meta.PLURAL, "bob")["status"].get("workload") or {}).get("uid") not in (None, lost))
    installed.well("bob")
    assert installed.exec("bob", "cat", "/workspace/kept").strip() == "of bob"
    assert installed.exec("alice", "cat", "/workspace/kept").strip() == "newer"
    installed.kubectl("delete", meta.PLURAL, "bob", "--namespace=agents")


def test_installing_again_changes_nothing_and_a_new_option_only_what_it_concerns(installed: Installed) -> None:
    before, sandbox = installed.pids(), installed.well("alice")["metadata"]["resourceVersion"]
    installed.install()
    assert installed.pids() == before
    assert installed.get(meta.PLURAL, "alice")["metadata"]["resourceVersion"] == sandbox
    installed.install("--sandbox-image=registry.example/another:1", "--namespace=more")
    after = installed.pids()
    assert {name for name in before if before[name] != after[name]} == {"operator"}
    assert installed.get("namespace", "more")
    allowed = installed.get("dockerhosts", "local")["spec"]["allowedNamespaces"]["names"]
    assert allowed == ["agents", "more"]
    installed.install()


@pytest.mark.slow
def test_another_port_moves_all_of_it(installed: Installed) -> None:
    before = installed.well("alice")
    said = installed.machine.from_the_clone("machine", "install", "--port=6442")
    assert "https://127.0.0.1:6442" in said
    installed.all_well()
    assert installed.well("alice")["metadata"]["uid"] == before["metadata"]["uid"]
    installed.machine.from_the_clone("machine", "install", "--port=6443")
    installed.all_well()


def test_where_no_engine_is_it_says_what_to_install_and_installs_it_only_if_told(installed: Installed) -> None:
    # A stand-in: the machine has no network to fetch packages by.
    apt = installed.machine.file("/usr/local/sbin/apt-get")
    apt.write_text('#!/bin/sh\necho "$@" >> /tmp/apt-calls\n')
    apt.chmod(0o755)
    options = ("machine", "install", "--socket=/run/nowhere.sock", "--sandbox-image=some:1")
    said = installed.machine.from_the_clone(*options, check=False)
    assert "apt-get install docker.io" in said
    assert installed.machine.run("cat", "/tmp/apt-calls", check=False).returncode != 0
    said = installed.machine.from_the_clone(*options, "--install-docker", check=False)
    assert installed.machine.out("cat", "/tmp/apt-calls").splitlines() == [
        "--quiet update", "--quiet install --yes docker.io",
    ]  # fmt: skip
    # Which brought none here.
    assert "can't be used" in said
    apt.unlink()


def test_a_namespace_that_is_deleted_goes(installed: Installed) -> None:
    installed.kubectl("create", "namespace", "short-lived")
    installed.kubectl("create", "configmap", "something", "--namespace=short-lived")
    installed.kubectl("delete", "namespace", "short-lived", "--timeout=60s")
    assert installed.get("namespace", "short-lived") == {}


def test_the_daily_round_makes_a_backup_and_certificates_in_time(installed: Installed) -> None:
    pki = Places(installed.machine.root).pki
    authority, subject = keys.subjects()["apiserver"]
    ca = read(Files(pki, authority))
    assert ca is not None
    # Ten days before its end.
    old = issue(ca, subject, datetime.now(UTC) - timedelta(days=355))
    Files(pki, "apiserver").certificate.write_bytes(old.certificate)
    Files(pki, "apiserver").key.write_bytes(old.key)
    before = installed.pids()
    backups = installed.machine.file("/var/lib/claude-sandbox/backups")
    made = set(backups.iterdir())
    installed.machine.run("systemctl", "start", "claude-sandbox-daily.service")
    assert len(set(backups.iterdir()) - made) == 1
    assert Files(pki, "apiserver").certificate.read_bytes() != old.certificate
    after = installed.pids()
    assert {name for name in before if before[name] != after[name]} == {"apiserver"}
    installed.all_well()


def test_status_names_what_is_not_well(installed: Installed) -> None:
    installed.machine.run("systemctl", "stop", "claude-sandbox-operator.service")
    done = installed.machine.run(COMMAND, "machine", "status", check=False)
    assert done.returncode == 1
    assert "claude-sandbox-operator.service is not well" in done.stdout
    installed.machine.run("systemctl", "start", "claude-sandbox-operator.service")
    installed.all_well()


def test_a_package_has_programs_and_units_and_no_keys(installed: Installed) -> None:
    installed.machine.from_the_clone("machine", "install", "--root=/opt/package")
    package = installed.machine.file("/opt/package")
    units = {path.name for path in (package / "etc/systemd/system").iterdir()}
    assert units == {*UNITS, "claude-sandbox-daily.timer"}
    assert not (package / "etc/claude-sandbox").exists()
    assert not (package / "var").exists()
    # What the units start is there, where they say.
    done = installed.machine.run("systemd-analyze", "verify", "--man=no", "--root=/opt/package", UNITS[0], check=False)
    assert "not executable" not in done.stdout, done.stdout
    shutil.rmtree(package)


@pytest.mark.slow
def test_without_an_image_named_sandboxes_run_the_real_one(installed: Installed, sandbox_image: ImageArchive) -> None:
    installed.machine.from_the_clone("machine", "install", "--built-image")
    installed.sandbox("real")
    said = installed.exec("real", "claude", "--version")
    assert "Claude Code" in said
    installed.install()


def test_what_is_uninstalled_with_its_data_kept_is_there_again_after_an_install(installed: Installed) -> None:
    before, ran = installed.well("alice"), installed.container("alice")
    installed.command("uninstall", "--keep-data")
    assert not list(installed.machine.file("/etc/systemd/system").glob("claude-sandbox*"))
    assert not installed.machine.file("/usr/local/lib/claude-sandbox").exists()
    installed.install()
    after = installed.well("alice")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert installed.container("alice")["State"]["StartedAt"] == ran["State"]["StartedAt"]


def test_what_is_uninstalled_with_everything_leaves_nothing(installed: Installed) -> None:
    shutil.rmtree(installed.machine.file("/var/backups/claude"), ignore_errors=True)
    said = installed.command("uninstall", "--purge")
    # Workspaces that are to be retained are the person's, who is told of them.
    left = counted(installed.engine, tools=True)
    assert [name for name in left["volumes"] if not name.endswith("-workspace")] == installed.before["volumes"]
    assert [name for name in left["volumes"] if f"docker volume rm {name}" not in said] == []
    assert {**left, "volumes": installed.before["volumes"]} == installed.before
    assert images(installed.engine) == ["claudesandbox.dev/stand-in:1"]
    assert files(installed.machine) - installed.files == set()
    assert "claude-sandbox-" not in installed.machine.out("systemctl", "list-units", "--all", "--no-pager")


def holds(directory: Path, word: str) -> bool:
    found = [path for path in directory.rglob("*") if path.is_file() and word.encode() in path.read_bytes()]
    return bool(found)


def backed_up(installed: Installed, *options: str) -> Path:
    said = installed.command("backup", *options)
    path = next(line for line in said.splitlines() if ".tar.gz" in line).partition(":")[0]
    return installed.machine.file(path)
