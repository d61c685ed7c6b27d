"""What a container gets of its host by a mount whose name, source or declaration makes it look harmless.

A key agent's socket passed when a declaration named it, wherever it came from; so did a directory above logins, an
engine's socket of Docker Desktop, a path that only Desktop's labels tell, and a volume that is a path of the host in
disguise, as long as its document was not given. Closed by places (`logins`, `sockets`),
by what else the document says
of a source (`mounts`), and by Unknown for what it does not say. What stands beside such places stays free.
"""

import posixpath
from typing import Any

import pytest
from compliant_container import World, changed, compliant
from hypothesis import example, given
from hypothesis import strategies as st

from claude_sandbox.api.status import Result

HOMES = ("/home/u", "/root", "/Users/u", "/var/home/u", "/host_mnt/Users/u", "/mnt/c/Users/u", "C:\\Users\\u",
         "/run/desktop/mnt/host/c/Users/u", "\\\\wsl$\\Ubuntu\\home\\u", "//wsl.localhost/Debian/home/u")  # fmt: skip

AGENTS = (
    "/run/user/1000/keyring/ssh", "/run/user/1000/keyring", "/run/user/1000/gcr/ssh",
    "/run/user/1000/ssh-agent.socket",
    "/run/user/1000/openssh_agent", "/run/user/1000/gnupg/S.gpg-agent.ssh", "/run/user/1000/gnupg/d.x/S.gpg-agent",
    "/run/user/1000/gnupg", "/run/user/1000/kwallet5.socket", "/run/user/1000/bus", "/run/user/1000",
    "/run/user/1000/yubikey-agent/yubikey-agent.sock", "/run/user/1000/app/org.keepassxc.KeePassXC",
    "/tmp/ssh-XXXXabcdef/agent.4711", "/tmp/ssh-XXXXabcdef", "/run/host-services/ssh-auth.sock", "/run/host-services",
    "/private/tmp/com.apple.launchd.AbCdEf/Listeners", "/private/tmp/com.apple.launchd.AbCdEf",
    "/host_mnt/private/tmp/com.apple.launchd.AbCdEf/Listeners", "/home/u/.1password/agent.sock", "/home/u/.1password",
    "/Users/u/Library/Group Containers/2BUA8C4S2C.com.1password/t/agent.sock", "/home/u/.bitwarden-ssh-agent.sock",
    "/home/u/.ssh/agent/s.abc", "/home/u/.ssh/agent.sock", "/home/u/.gnupg/S.gpg-agent", "/tmp/ssh-agent.sock",
    "/Users/u/Library/Containers/com.maxgoodman.Secretive.SecretAgent/Data/socket.ssh",
    "/home/u/.ssh/wsl2-ssh-agent.sock",
    "/run/pcscd/pcscd.comm", "/tmp/keyring-AbCdEf/ssh", "/run/user/1000/S.pageant", "/var/run/user/1000/keyring/ssh",
    "/run/dbus/system_bus_socket", "/run/tpm2.sock",
)  # fmt: skip
LOGINS = (
    ".ssh", ".ssh/id_ed25519", ".aws", ".azure", ".kube", ".kube/config", ".docker", ".docker/config.json", ".gnupg",
    ".netrc",
    ".npmrc", ".pypirc", ".git-credentials", ".config", ".config/gh", ".config/gcloud", ".config/github-copilot",
    ".config/Code", ".config/Cursor", ".config/google-chrome", ".config/containers/auth.json", ".config/containers",
    ".config/op",
    ".config/rclone/rclone.conf", ".config/git/credentials", ".config/opencode", ".local", ".local/share",
    ".local/share/keyrings", ".local/share/kwalletd", ".local/share/opencode/auth.json", ".codex", ".codex/auth.json",
    ".gemini", ".gemini/oauth_creds.json", ".cursor", ".aider.conf.yml", ".copilot", ".claude", ".claude.json",
    ".claude/x",
    ".continue", ".codeium", ".cargo", ".cargo/credentials.toml", ".m2", ".m2/settings.xml", ".gradle", ".composer",
    ".gem/credentials", ".terraform.d", ".pgpass", ".my.cnf", ".databrickscfg", ".vault-token", ".mozilla", ".pki",
    ".password-store", ".cache", ".cache/huggingface", ".cache/huggingface/token", ".minikube", ".lima",
    ".huggingface", ".dockercfg", ".rclone.conf", ".mc", ".mc/config.json", ".config/scw", ".vscode-server",
    ".config/code-server/config.yaml",
    "Library", "Library/Keychains", "Library/Application Support", "Library/Application Support/Google/Chrome",
    "Library/Application Support/Claude", "AppData", "AppData/Roaming", "AppData/Local", "AppData/Roaming/gcloud",
    "AppData/Roaming/GitHub CLI/hosts.yml", "AppData/Roaming/Code", "AppData/Local/Google/Chrome", "snap", ".var",
)  # fmt: skip
OF_THE_HOST = (
    "/var/lib/rancher/k3s/server", "/var/lib/rancher/k3s/server/token", "/var/lib/containerd", "/etc/letsencrypt",
    "/etc/letsencrypt/live/example.org", "/var/lib/tailscale", "/etc/pki/tls/private", "/etc/gitlab-runner/config.toml",
    "/var/lib/docker/swarm/certificates", "/etc/openvpn/client", "/etc/shadow", "/etc/kubernetes/admin.conf",
)  # fmt: skip
ENGINES = (
    "/var/run/docker.sock", "/run/docker.sock", "/run/host-services/docker.proxy.sock", "/run/host-services",
    "/run/guest-services/docker.sock", "/run/guest-services", "/Users/u/.docker/run/docker.sock",
    "/home/u/.docker/desktop",
    "/home/u/.docker/desktop/docker.sock", "/home/u/.docker/desktop/docker-cli.sock", "/home/u/.docker",
    "/Users/u/Library/Containers/com.docker.docker/Data/docker.raw.sock",
    "/Users/u/Library/Containers/com.docker.docker",
    "/run/podman/podman.sock", "/run/podman", "/run/user/1000/podman/podman.sock", "/run/user/1000/podman",
    "/run/user/1000/docker.sock", "/Users/u/.local/share/containers/podman/machine/podman.sock",
    "/Users/u/.local/share/containers/podman/machine/qemu/podman.sock", "/Users/u/.rd/docker.sock", "/Users/u/.rd",
    "/Users/u/.lima/default/sock/docker.sock", "/Users/u/.lima/default/sock", "/Users/u/.lima/default",
    "/Users/u/.lima",
    "/Users/u/.colima/default/docker.sock", "/Users/u/.colima/docker.sock", "/Users/u/.colima/default",
    "/Users/u/.colima",
    "/Users/u/.config/colima/default/docker.sock", "/Users/u/.orbstack/run/docker.sock", "/Users/u/.orbstack/run",
    "/Applications/Finch/lima/data/finch/sock/finch.sock", "/run/finch.sock", "/run/containerd/containerd.sock",
    "/run/containerd/containerd.sock.ttrpc", "/run/containerd", "/run/user/1000/containerd-rootless",
    "/run/crio/crio.sock",
    "/run/k3s/containerd/containerd.sock", "/run/k3s", "/run/buildkit/buildkitd.sock", "/run/buildkit",
    "/run/cri-dockerd.sock",
    "/run/user/1000/buildkit/buildkitd.sock", "/var/snap/microk8s/common/run/containerd.sock",
    "/run/balena-engine.sock",
    "/run/docker", "/mnt/wsl/docker-desktop/shared-sockets/guest-services/docker.sock",
    "/mnt/wsl/rancher-desktop/run/docker.sock",
    "/mnt/wsl/docker-desktop/shared-sockets", "//./pipe/docker_engine", "\\\\.\\pipe\\docker_engine",
    "/run/nri/nri.sock",
    "/var/lib/lxd/unix.socket", "/socket_mnt/Users/u/.docker/run/docker.sock", "/run", "/var", "/", "/var/run",
    "/run/user/1000",
)  # fmt: skip
FREE = (
    "/home/u/project", "/home/u/project/.claude", "/home/u/project/.cursor", "/home/u/project/.config",
    "/home/u/.gitconfig",
    "/home/u/project/.vscode", "/home/u/.config/nvim", "/home/u/.config/fish", "/home/u/.cache/pip",
    "/home/u/.m2/repository",
    "/home/u/.cargo/registry", "/home/u/.cargo/bin", "/home/u/.local/bin", "/home/u/.local/share/fonts",
    "/home/u/.gradle/caches",
    "/home/u/.cache/huggingface/hub", "/home/u/src/ssh-agent", "/home/u/src/docker", "/srv/data",
    "/srv/ssh-config-docs",
    "/opt/tools", "/data/keyring-docs", "/Users/u/Documents/x", "C:\\Users\\u\\source\\x",
    "\\\\wsl$\\Ubuntu\\home\\u\\x",
    "/run/desktop/mnt/host/c/Users/u/source", "/mnt/data", "/home/u/.npm/_cacache", "/home/u/Library-of-things", "/w",
    "/home/u/.dockerignore", "/home/u/.sshd-notes", "/home/u/AppDataset", "/srv/library", "/srv/containers/x",
    "/home/u/.zshrc",
)  # fmt: skip


def declared_bind(source: str, destination: str = "/x") -> dict[str, Result]:
    """What is found of a mount that is declared and read-only, so that only what it is speaks against it."""
    return changed(
        lambda world: world.bind(source, destination), lambda world: world.declare(mounts=frozenset({destination}))
    ).results()


@pytest.mark.parametrize("source", AGENTS)
def test_no_declaration_makes_the_socket_of_an_agent_right(source: str) -> None:
    assert declared_bind(source)["SEC-03"] is Result.FAIL


@pytest.mark.parametrize(
    ("variable", "place"),
    [
        ("SSH_AUTH_SOCK=/x/agent", "/x"),
        ("SSH_AUTH_SOCK=/x", "/x"),
        ("GPG_AGENT_INFO=/x/S:123:1", "/x"),
        ("DBUS_SESSION_BUS_ADDRESS=unix:path=/x/bus,guid=1", "/x"),
        ("FORWARDED_AUTH_SOCK=/x", "/x"),
    ],
)
def test_what_a_variable_names_as_an_agent_is_one_wherever_it_comes_from(variable: str, place: str) -> None:
    world = changed(
        lambda world: world.bind("/srv/anything", place),
        lambda world: world.declare(mounts=frozenset({place})),
        lambda world: world.config["Env"].append(variable),
    )
    assert world.results()["SEC-03"] is Result.FAIL


@pytest.mark.parametrize("place", ["/ssh-agent", "/run/host-services/ssh-auth.sock", "/tmp/ssh-agent.sock"])
def test_nor_what_is_called_one_in_the_container(place: str) -> None:
    assert declared_bind("/srv/anything", place)["SEC-03"] is Result.FAIL


@pytest.mark.parametrize("place", OF_THE_HOST)
def test_what_the_host_itself_logs_in_with_is_no_mount_for_a_sandbox(place: str) -> None:
    assert declared_bind(place)["SEC-03"] is Result.FAIL


@pytest.mark.parametrize("login", LOGINS)
def test_logins_and_what_holds_them_fail_in_every_home(login: str) -> None:
    sources = [f"{home}\\{login}".replace("/", "\\") if "\\" in home else f"{home}/{login}" for home in HOMES]
    # A root that is mounted whole is the system's, and fails there; what is below it is judged here.
    assert [source for source in sources if declared_bind(source)["SEC-03"] is not Result.FAIL] == []


@pytest.mark.parametrize("home", HOMES)
def test_a_home_and_all_homes_fail(home: str) -> None:
    for source in (home, f"{home}/.", f"{home}//x/.."):
        found = declared_bind(source)
        assert (found["SEC-03"], found["FS-02"]) == (Result.FAIL, Result.FAIL)


@pytest.mark.parametrize("source", ENGINES)
def test_no_declaration_makes_the_socket_of_an_engine_right(source: str) -> None:
    assert declared_bind(source)["FS-03"] is Result.FAIL
    assert changed(lambda world: world.bind(source, "/x")).results()["FS-03"] is Result.FAIL


@pytest.mark.parametrize("source", FREE)
def test_what_is_none_of_these_passes_when_it_is_declared(source: str) -> None:
    found = declared_bind(source)
    assert {found[control] for control in ("FS-02", "FS-03", "SEC-03")} == {Result.PASS}


PROGRAMS_OF_USERS = (
    "/home/u/.some-new-agent", "/home/u/.config/some-tool/hosts.yml", "/root/.bash_history", "/home/u/.vscode",
    "/Users/u/Library/Application Support/Some", "C:\\Users\\u\\AppData\\Roaming\\Some", "/home/u/snap/some",
    "\\\\wsl$\\Ubuntu\\home\\u\\.some-new-agent", "/home/u/.local/share/some",
)  # fmt: skip


@pytest.mark.parametrize("source", PROGRAMS_OF_USERS)
def test_what_an_unknown_program_keeps_in_a_home_is_not_known_unless_somebody_answers_for_it(source: str) -> None:
    assert changed(lambda world: world.bind(source, "/x")).results()["SEC-03"] is Result.UNKNOWN
    assert declared_bind(source)["SEC-03"] is Result.PASS


@pytest.mark.parametrize("source", ["/home/u/.cache/pip", "/home/u/.vimrc", "/root/.m2/repository", "/srv/.hidden/x"])
def test_what_is_known_to_be_harmless_needs_no_answer(source: str) -> None:
    assert changed(lambda world: world.bind(source, "/x")).results()["SEC-03"] is Result.PASS


@given(st.sampled_from((*AGENTS, *ENGINES)), st.lists(st.sampled_from(["/.", "/", "/x/.."]), max_size=3))
@example("/run/host-services", ["/."])
@example("/run/guest-services", ["/"])
@example("/socket_mnt/Users/u/.docker/run/docker.sock", ["/x/.."])
def test_another_way_of_writing_a_path_changes_nothing(source: str, more: list[str]) -> None:
    spelled = source + "".join(more) if "\\" not in source else source
    assert declared_bind(spelled) == declared_bind(source)


@pytest.mark.parametrize(
    "source",
    [
        *("/host_mnt/Users/u/w", "//host_mnt/Users/u/w", "/./run/desktop/mnt/w", "/var/run/desktop/w"),
        *("/run/host_mark/Users/u/w", "/mnt/mac/Users/u/w", "/Users/u/w", "C:\\w", "/private/tmp/w"),
    ],
)
def test_whose_engine_it_is_is_told_by_a_source_however_it_is_spelled_and_wherever_it_stands(source: str) -> None:
    def listed(world: World) -> None:
        world.bind(source, "/x")

    def bound(world: World) -> None:
        world.host["Binds"] = [f"{source}:/x:ro"]

    def asked(world: World) -> None:
        world.host["Mounts"] = [{"Type": "bind", "Source": source, "Target": "/x", "ReadOnly": True}]

    found = {place.__name__: changed(place).results()["KERN-01"] for place in (listed, bound, asked)}
    assert found == dict.fromkeys(found, Result.UNKNOWN)


@pytest.mark.parametrize("source", ["/host_mnts/w", "/srv/run/desktop/w", "/run/desktops", "/srv/Users/w", "/c/w"])
def test_a_path_that_only_begins_with_the_same_letters_tells_nothing(source: str) -> None:
    assert changed(lambda world: world.bind(source, "/x")).results()["KERN-01"] is Result.PASS


def test_a_variable_and_a_mount_name_the_same_socket_by_either_name_of_run() -> None:
    for place, named in (("/run/x", "/var/run/x"), ("/var/run/x", "/run/x"), ("/run/x", "/run/./x")):
        world = changed(
            lambda world, place=place: world.bind("/srv/anything", place),
            lambda world, named=named: world.config["Env"].extend(
                [f"DOCKER_HOST=unix://{named}", f"SSH_AUTH_SOCK={named}"]
            ),
        )
        assert (world.results()["FS-03"], world.results()["SEC-03"]) == (Result.FAIL, Result.FAIL), place


@pytest.mark.parametrize("place", ["/workspace/", "//workspace", "/x/../workspace"])
def test_a_workspace_in_memory_is_mounted_there_however_it_is_spelled(place: str) -> None:
    def mutate(world: World) -> None:
        world.host["Tmpfs"] = {place: "size=64m"}
        world.container["Mounts"] = [one for one in world.container["Mounts"] if one["Destination"] != "/workspace"]
        world.host["Binds"] = []
        world.host.pop("Mounts", None)

    assert changed(mutate).results()["FS-08"] is Result.PASS


HANDLE = "/run/desktop/mnt/host/wsl/docker-desktop-bind-mounts/Ubuntu/" + "0f" * 32


def labelled(world: World, source: str, target: str = "/keys") -> None:
    world.config["Labels"] |= {
        "desktop.docker.io/binds/0/Source": source,
        "desktop.docker.io/binds/0/SourceKind": "hostFile",
        "desktop.docker.io/binds/0/Target": target,
    }


@pytest.mark.parametrize(
    ("source", "control"),
    [
        ("/home/u/.ssh", "SEC-03"),
        ("/home/u", "FS-02"),
        ("\\\\wsl$\\Ubuntu\\home\\u\\.ssh", "SEC-03"),
        ("/var/run/docker.sock", "FS-03"),
        ("C:\\Users\\u\\.aws", "SEC-03"),
        ("/run/user/1000/keyring/ssh", "SEC-03"),
    ],
)
@pytest.mark.parametrize("behind", [HANDLE, "/mnt/wsl/docker-desktop-bind-mounts/Ubuntu/" + "0f" * 32, "/srv/anything"])
def test_what_desktop_s_labels_tell_of_a_source_counts(source: str, control: str, behind: str) -> None:
    world = changed(
        lambda world: world.bind(behind, "/keys"),
        lambda world: labelled(world, source),
        lambda world: world.declare(mounts=frozenset({"/keys"})),
    )
    assert world.results()[control] is Result.FAIL


@pytest.mark.parametrize("asked_by", ["binds", "mounts"])
@pytest.mark.parametrize(
    ("labels", "control"),
    [
        ({"Source": "/home/u/.ssh", "SourceKind": "hostFile"}, "SEC-03"),
        ({"SourceKind": "dockerSocketProxied"}, "FS-03"),
        ({"Source": "/run/x", "SourceKind": "dockerSocketProxied"}, "FS-03"),
    ],
)
def test_they_count_whichever_option_asked_for_the_mount(asked_by: str, labels: dict[str, str], control: str) -> None:
    told = {"Target": "/keys"} | labels
    world = changed(
        lambda world: world.bind(HANDLE, "/keys"),
        lambda world: world.config["Labels"].update(
            {f"desktop.docker.io/{asked_by}/3/{key}": value for key, value in told.items()}
        ),
        lambda world: world.declare(mounts=frozenset({"/keys"})),
    )
    assert world.results()[control] is Result.FAIL


def test_a_handle_without_a_label_is_not_known_and_with_one_is_what_it_says() -> None:
    controls = ("FS-02", "FS-03", "SEC-03")
    found = declared_bind(HANDLE, "/keys")
    assert {found[one] for one in controls} == {Result.UNKNOWN}
    told = changed(
        lambda world: world.bind(HANDLE, "/keys"),
        lambda world: labelled(world, "/home/u/project"),
        lambda world: world.declare(mounts=frozenset({"/keys"})),
    ).results()
    assert {told[one] for one in controls} == {Result.PASS}


def _with_volume(document: dict[str, Any] | None, **mount: Any) -> dict[str, Result]:
    def mutate(world: World) -> None:
        world.host["Binds"] = ["v:/data:ro"]
        listed = {"Type": "volume", "Name": "v", "Source": "/var/lib/docker/volumes/v/_data", "Destination": "/data"}
        more = {"Driver": "local", "Mode": "ro", "RW": False, "Propagation": ""}
        world.container["Mounts"].append(listed | more | mount)
        world.declare(mounts=frozenset({"/data"}))
        if document is not None:
            world.volumes.append({"Name": "v", "Mountpoint": "/var/lib/docker/volumes/v/_data"} | document)

    return changed(mutate).results()


def test_a_volume_whose_document_is_not_given_may_be_anything_of_the_host_s() -> None:
    found = _with_volume(None)
    assert {id for id, result in found.items() if result is not compliant().results()[id]} == {
        *("FS-02", "FS-03", "FS-05", "SEC-03")
    }
    assert {found[one] for one in ("FS-02", "FS-03", "FS-05", "SEC-03")} == {Result.UNKNOWN}


@pytest.mark.parametrize(
    "document",
    [
        {"Driver": "vieux/sshfs", "Options": {"sshcmd": "me@h:/x"}},
        {"Driver": "local"},
        {"Options": {}},
        {"Driver": "local", "Options": "o=bind"},
    ],
    ids=["a plug-in's", "without options", "without a driver", "with options that are none"],
)
def test_nor_is_one_whose_document_does_not_tell(document: dict[str, Any]) -> None:
    found = _with_volume(document)
    assert {found[one] for one in ("FS-02", "FS-03", "SEC-03")} == {Result.UNKNOWN}


@pytest.mark.parametrize("options", [None, {}, {"type": "tmpfs", "device": "tmpfs"}, {"type": "nfs", "device": ":/x"}])
def test_one_of_the_engine_s_own_is_none_of_the_host_s(options: dict[str, str] | None) -> None:
    found = _with_volume({"Driver": "local", "Options": options})
    assert {found[one] for one in ("FS-02", "FS-03", "SEC-03")} == {Result.PASS}


@pytest.mark.parametrize(
    ("device", "control"), [("/var/run", "FS-03"), ("/home/u/.ssh", "SEC-03"), ("/", "FS-02"), ("/dev/sda1", "FS-05")]
)
def test_one_in_disguise_is_what_it_shows(device: str, control: str) -> None:
    assert (
        _with_volume({"Driver": "local", "Options": {"type": "none", "o": "bind", "device": device}})[control]
        is Result.FAIL
    )


OWN = {"Driver": "local", "Options": None}


@pytest.mark.parametrize("document", [OWN, OWN | {"Mountpoint": "/home/u/.ssh"}])
@pytest.mark.parametrize("source", ["/home/u/.ssh", "C:\\Users\\u\\.ssh", "/var/lib/docker/volumes/v/_data"])
def test_one_that_is_elsewhere_than_an_engine_keeps_it_is_what_is_there(source: str, document: dict[str, Any]) -> None:
    usual = source.endswith("/_data") and document is OWN
    found = _with_volume(document, Source=source)
    assert found["SEC-03"] is (Result.PASS if usual else Result.FAIL)


@pytest.mark.parametrize(
    "place",
    ["/data/docker/volumes/v/_data", "/var/lib/docker/100000.100000/volumes/v/_data", "D:\\docker\\volumes\\v\\_data"],
)
def test_wherever_an_engine_keeps_its_volumes_they_are_its_own(place: str) -> None:
    assert _with_volume(OWN | {"Mountpoint": place}, Source=place)["FS-02"] is Result.PASS


@pytest.mark.parametrize("mount", [{"Driver": "rexray/ebs"}, {"Type": "cluster", "Driver": "csi"}])
def test_one_of_another_driver_than_its_document_says_is_not_known(mount: dict[str, Any]) -> None:
    found = _with_volume(OWN, **mount)
    assert {found[one] for one in ("FS-02", "FS-03", "SEC-03")} == {Result.UNKNOWN}


FILE_SYSTEMS: tuple[tuple[dict[str, str], str, Result], ...] = (
    ({"type": "overlay", "o": "lowerdir=/home/u/.ssh:/srv/a,upperdir=/srv/b,workdir=/srv/w"}, "SEC-03", Result.FAIL),
    ({"type": "overlay", "o": "lowerdir=/srv/a,upperdir=/root,workdir=/srv/w"}, "FS-02", Result.FAIL),
    ({"type": "overlay", "o": "lowerdir=/srv/a,upperdir=/srv/b,workdir=/srv/w"}, "FS-02", Result.PASS),
    ({"type": "overlay", "o": "lowerdir=a"}, "FS-02", Result.UNKNOWN),
    ({"type": "proc", "device": "proc"}, "FS-02", Result.FAIL),
    ({"type": "cgroup2", "device": "none"}, "FS-02", Result.FAIL),
    ({"type": "debugfs", "device": "none"}, "FS-02", Result.FAIL),
    ({"type": "devtmpfs", "device": "x"}, "FS-05", Result.FAIL),
    ({"type": "devpts", "device": "x"}, "FS-05", Result.FAIL),
    ({"type": "9p", "device": "host0", "o": "trans=virtio"}, "FS-02", Result.UNKNOWN),
    ({"type": "virtiofs", "device": "Users"}, "SEC-03", Result.UNKNOWN),
    ({"type": "ext4", "device": "UUID=0f0f"}, "FS-05", Result.UNKNOWN),
    ({"type": "fuse.bindfs", "device": "/home/u"}, "FS-02", Result.FAIL),
    ({"type": "nfs", "device": ":/home", "o": "addr=127.0.0.1,rw"}, "SEC-03", Result.UNKNOWN),
    ({"type": "nfs4", "device": "localhost:/home"}, "SEC-03", Result.UNKNOWN),
    ({"type": "cifs", "device": "//localhost/c$"}, "SEC-03", Result.UNKNOWN),
    ({"type": "nfs", "device": ":/x", "o": "addr=host.docker.internal"}, "SEC-03", Result.UNKNOWN),
    ({"type": "nfs", "device": ":/x", "o": "addr=10.0.0.5,rw"}, "SEC-03", Result.PASS),
    ({"type": "cifs", "device": "//server/share", "o": "username=a"}, "SEC-03", Result.PASS),
    ({"type": "none", "o": "bind", "device": "./x"}, "FS-02", Result.UNKNOWN),
    ({"type": "none", "o": "bind", "device": "//run//docker.sock"}, "FS-03", Result.FAIL),
    ({"o": "rbind", "device": "//home/u/.ssh"}, "SEC-03", Result.FAIL),
    ({"size": "10G"}, "FS-02", Result.PASS),
)


@pytest.mark.parametrize(("options", "control", "result"), FILE_SYSTEMS)
def test_one_of_another_file_system_is_what_the_kernel_mounts_for_it(
    options: dict[str, str], control: str, result: Result
) -> None:
    assert _with_volume({"Driver": "local", "Options": options})[control] is result


def test_one_that_is_made_with_the_container_is_what_it_was_asked_to_be() -> None:
    def asked(options: dict[str, str]) -> Result:
        def mutate(world: World) -> None:
            world.host["Mounts"].append(
                {
                    "Type": "volume",
                    "Source": "v",
                    "Target": "/x",
                    "ReadOnly": True,
                    "VolumeOptions": {"DriverConfig": {"Name": "local", "Options": options}},
                }
            )
            world.volumes.append(
                {"Name": "v", "Driver": "local", "Options": None, "Mountpoint": "/data/volumes/v/_data"}
            )
            world.declare(mounts=frozenset({"/x"}))

        return changed(mutate).results()["FS-02"]

    assert asked({"type": "proc", "device": "proc"}) is Result.FAIL
    assert asked({"type": "9p", "device": "x"}) is Result.UNKNOWN
    assert asked({"type": "tmpfs", "device": "tmpfs"}) is Result.PASS


@pytest.mark.parametrize(
    ("runtime", "devices", "result"),
    [
        ("nvidia", "all", Result.FAIL),
        ("nvidia-cdi", "0", Result.FAIL),
        ("nvidia", "void", Result.PASS),
        ("nvidia", "", Result.PASS),
        ("runc", "all", Result.PASS),
    ],
)
def test_a_runtime_that_gives_devices_by_a_variable_is_a_way_to_them(
    runtime: str, devices: str, result: Result
) -> None:
    world = changed(
        lambda world: world.host.update(Runtime=runtime),
        lambda world: world.config["Env"].append(f"NVIDIA_VISIBLE_DEVICES={devices}"),
    )
    assert world.results()["FS-05"] is result


@pytest.mark.parametrize(
    ("size", "result"),
    [("50%", Result.FAIL), ("100%", Result.FAIL), ("10%", Result.PASS), ("0%", Result.FAIL), ("64m", Result.PASS)],
)
def test_half_of_the_memory_and_more_is_no_bound(size: str, result: Result) -> None:
    assert changed(lambda world: world.host.update(Tmpfs={"/tmp": f"size={size}"})).results()["FS-07"] is result


def test_a_container_of_windows_has_no_filter_that_could_be_known() -> None:
    assert changed(lambda world: world.container.update(Platform="windows")).results()["KERN-01"] is Result.UNKNOWN


def _writing_to(*places: str, workspaces: tuple[str, ...]) -> Result:
    def mutate(world: World) -> None:
        for place in places:
            world.bind(f"/srv{place}", place, writable=True)
        world.declare(workspaces=frozenset({"/workspace", *workspaces}))

    return changed(mutate).results()["FS-08"]


def test_each_declared_workspace_counts_and_no_other_place() -> None:
    assert _writing_to("/history", "/cfg", workspaces=("/history", "/cfg")) is Result.PASS
    assert _writing_to("/history", "/cfg", workspaces=("/history",)) is Result.FAIL
    assert _writing_to("/history", workspaces=("/history", posixpath.join("/", "elsewhere"))) is Result.FAIL
