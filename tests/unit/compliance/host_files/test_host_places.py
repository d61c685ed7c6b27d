"""Which of a host's files and sockets mean a user's logins, or power over the host, under whatever name."""

import pytest
from compliant_container import World, changed

from claude_sandbox.api.status import Result
from claude_sandbox.compliance.host_files.credential_files import doubtful, login
from claude_sandbox.compliance.host_files.homes import is_home
from claude_sandbox.compliance.host_files.paths import host_path
from claude_sandbox.compliance.host_files.sockets import agent, agents_in, engine, engines_in


def listed(words: str) -> list[str]:
    """The words of a text."""
    return words.split()


AGENTS = listed(
    """
    /tmp/vscode-ssh-auth-7f0c2e7d-9a1b-4c6e-8f30-5f0c2e7d9a1b.sock /tmp/vscode-git-8f30.sock
    /tmp/vscode-ipc-7f0c-9a1b.sock /tmp/vscode-remote-containers-ipc-7f0c2e7d.sock
    /tmp/cursor-remote-containers-ipc-7f0c2e7d.sock /run/user/1000/vscode-git-8f30.sock
    /run/user/1000/ssh-tpm-agent.sock /run/user/1000/p11-kit/pkcs11-4711 /run/user/1000/p11-kit
    /home/u/.cache/git/credential/socket /home/u/.git-credential-cache/socket /home/u/.cache/keyring-AB12CD
    /run/.heim_org.h5l.kcm-socket /run/munge /run/munge/munge.socket.2 /Users/u/.sekey/ssh-agent.ssh
    /home/u/.local/state/ssh-agent/socket /run/vault/agent.sock /run/gssproxy.default.sock /tmp/dbus-Ab12Cd
    /mnt/wslg/runtime-dir/bus
    /home/u/.strongbox/agent.sock /home/u/.cache/rbw/ssh-agent-socket /run/user/1000/rbw/socket
    /tmp/launch-AbCdEf/Listeners /home/u/.kr/krd-agent.sock /home/u/.tsh/agent.sock /home/u/.step/ssh/agent.sock
    /opt/homebrew/var/run/yubikey-agent.sock /usr/local/var/run/yubikey-agent.sock /run/user/1000/piv-agent/ssh.socket
    /run/user/1000/teleport-agent /run/user/1000/tkey-ssh-agent/sock /run/user/1000/wezterm/agent.123
    /run/user/1000/gnome-keyring/ssh /run/user/501/ssh.sock /tmp/auth-agent123/listener.sock /run/user/1000/goldwarden
    /run/tailscale/tailscaled.sock /home/u/.config/op/op-daemon.sock /run/user/1000/secretive.sock
    /run/user/1000/at-spi/bus /run/user/1000/keepassxc/x /run/user/1000/credentials/x.service
    /run/user/501/keeper-ssh-agent.sock /Users/u/.ssh/proton-pass-agent.sock /home/u/.ssh/agent/s.abcdef.agent.XYZ
    """
)
ENGINES = listed(
    """
    /run/containerd/s/0f0f /run/docker/swarm/control.sock /run/docker/plugins/x.sock /run/docker.sock.raw
    /Users/u/.docker/run/docker-cli-api.sock /Users/u/.docker/desktop/backend.sock
    /run/host-services/backend.sock /run/guest-services/volume-sharer.sock /run/snap.docker
    /var/snap/docker/common/run /run/podman/io.podman /run/user/1000/podman/io.podman
    /tmp/podman-run-1000/podman /var/folders/zz/T/podman /run/system-docker.sock /opt/docker/docker.socket
    /Users/u/.lima/default/ssh.sock /run/libvirt/virtlxcd-sock /run/firecracker.socket /run/vc
    /run/k3s/containerd/s/abc /run/buildkit/otel-grpc.sock /var/lib/kubelet/device-plugins/kubelet.sock /mnt/wsl
    /mnt/wsl/podman-sockets /run/frakti.sock /run/user/1000/nerdctl/x.sock /run/multipass_socket
    /var/snap/multipass/common/multipass_socket /opt/orbstack-guest/run
    /run/isulad.sock /run/pouchcri.sock /run/singularity/sycri.sock /run/kubelet.sock /system/run/machined/machine.sock
    /run/machined /system/run/containerd/containerd.sock /Users/u/.config/containers/podman/machine/x.sock
    /run/lxd/unix.socket /run/runc /run/user/1000/crun /run/qemu-server/100.qmp
    /run/user/1000/containerd-rootless/api.sock /run/apptainer/docker.sock
    """
)
# What runs a user's programs, or sees what he types.
SESSIONS = listed(
    """
    /run/user/1000/systemd/private /run/user/1000/systemd /tmp/tmux-1000/default /tmp/tmux-1000
    /run/user/1000/emacs/server /tmp/.X11-unix /tmp/.X11-unix/X0 /run/user/1000/wayland-0 /run/screen/S-u
    /mnt/wslg /run/user/1000/sway-ipc.1000.1.sock /run/user/1000/nvim.4711.0 /tmp/zellij-1000
    """
)
# In a home. `+` stands for a space.
LOGINS = listed(
    """
    .bluemix .aliyun/config.json .tccli .civo.json .config/upctl.yaml .config/exoscale .ovh.conf
    .config/openstack/clouds.yaml .config/yandex-cloud .passwd-s3fs .cf .saml2aws .aws-sso .granted .awsvault
    .local/share/.IdentityService .IdentityService .config/azuredevops .azd .clasprc.json
    .appstoreconnect/private_keys .config/shopify .config/Postman .config/Insomnia .config/pnpm/rc
    .conda/.anaconda .config/nix/nix.conf .config/coursier/credentials.properties .pub-cache/credentials.json
    .config/dart/pub-credentials.json .cabal/config .julia/servers/juliahub.com/auth.toml .julia .Renviron
    .conan2/credentials.json .jfrog .regctl/config.json .config/Lens .config/k3d .vcluster .config/tanzu
    .config/infracost/credentials.yml .config/hcp .doppler .infisical .kimi .openhands .junie .config/TabNine
    .ollama .config/aichat .config/gptme .mcp-auth .composio clearml.conf .runpod .vast_api_key .supermaven
    .vibe .sfdx .config/shell_gpt .cache/huggingface/stored_tokens .config/gitlab-runner .config/Antigravity
    .local/share/kiro-cli .near-credentials .vault_pass Library/Application+Support/ngrok/ngrok.yml
    Library/Application+Support/gh Library/Application+Support/glab-cli Library/Preferences/.wrangler
    AppData/Roaming/ngrok AppData/Local/.IdentityService AppData/Roaming/op AppData/Local/opencode
    Library/Application+Support/Code+-+Insiders .config/some-tool/credentials.json .some-tool/auth.json
    .some-tool/oauth_creds.json .some-tool/access_tokens.db .some-tool/token .some-tool/id_rsa
    .config/some-tool/session.key .local/share/some-tool/credentials .cache/some-tool/token.json
    .config/some-tool/client_secret.json .config .local .local/share .cache Library AppData .foundry
    """
)
HOMES = listed(
    """
    /home/u /root /Users/u /home2/u /export/homes/u /nfs/home/u /mnt/nfs/home/u /volume1/homes/u /hosthome/u
    /srv/home/u /Volumes/Macintosh+HD/Users/u /System/Volumes/Data/Users/u /cygdrive/c/Users/u
    /run/desktop/mnt/host/wsl$/Ubuntu/home/u \\\\?\\UNC\\wsl$\\Ubuntu\\home\\u \\\\?\\C:\\Users\\u
    \\\\wsl.localhost\\Ubuntu\\root D:\\Users\\u /private/var/root /HOME/u
    """
)
OF_THE_HOST = listed(
    """
    /Library/Keychains /Library/Keychains/System.keychain /Library C:\\ProgramData\\ssh
    /mnt/c/Windows/System32/config /var/lib/docker /var/lib/docker/containers /var/lib/docker/overlay2/x
    /var/lib/rancher/k3s/agent /var/lib/etcd /var/lib/rancher/rke2/agent/client-kubelet.key
    /var/snap/microk8s/current/credentials /var/lib/minikube /etc/cni/net.d/calico-kubeconfig /etc/pve/priv
    /etc/security/opasswd /etc/wpa_supplicant /var/lib/iwd /etc/ceph /var/lib/vault /var/lib/amazon/ssm
    /etc/dehydrated /run/agenix.d /run/sops-nix /var/lib/k0s/pki /etc/origin/master/admin.kubeconfig
    /etc/master.passwd /etc/apt/auth.conf.d /etc/containers/auth.json
    """
)
FREE = listed(
    """
    /home/u/work/tokens/design-tokens.json /home/u/src/credentials-service /home/u/src/app/.cursor/rules
    /home/u/token /home/u/src/app/.codex/AGENTS.md /home/u/src/docker.socket-notes /home/u/src/moby/containerd
    /srv/agents/run/agent.log /home/u/src/yubikey-agent-rs /opt/datadog-agent/conf.d
    /home/u/src/ssh-agent-rs /home/u/src/keyring /home/u/src/podman /home/u/src/vault /home/u/Library-docs
    /srv/home-assistant/config /data/users/alice /opt/app/home/data /srv/homes-for-sale /data/tokenizers
    /mnt/data/models /mnt/nas/projects /Users/Shared/data /mnt /opt D:\\work\\app \\\\wsl$\\Ubuntu\\srv\\app
    /home/u/.cache/go-build /home/u/.cache/x/tokens.d/part /home/u/.npm /home/u/go/pkg
    /home/u/.cargo/registry/src/oauth2-4.4 /home/u/.local/lib/python3/auth /home/u/.ollama/models
    /home/u/.terraform.d/plugins /var/lib/docker/volumes/x/_data /var/lib/rancher/k3s/storage/pvc-1
    /workspaces/app /tmp/build-1234 /tmp/claude-work /etc/ssl/certs /etc/localtime /etc/hosts
    /usr/share/zoneinfo /nix/store/x /run/systemd/resolve /run/datadog /run/user-data /etc/cni
    /srv/systemd/private /home/u/src/tmux-1000 /tmp/x11
    /home/u/.vim/syntax/auth.vim
    """
)


@pytest.mark.parametrize("path", AGENTS)
def test_the_socket_of_an_agent_is_known_wherever_it_is(path: str) -> None:
    assert agent(host_path(path), "/x") or login(host_path(path))


@pytest.mark.parametrize("path", [*ENGINES, *SESSIONS])
def test_so_is_that_of_an_engine_and_of_what_runs_programs(path: str) -> None:
    assert engine(host_path(path), "/x")


@pytest.mark.parametrize("place", LOGINS)
def test_a_login_is_known_by_its_program_in_every_place_where_one_has_its_files(place: str) -> None:
    assert login(host_path(f"/home/u/{place.replace('+', ' ')}"))


@pytest.mark.parametrize("home", HOMES)
def test_a_home_is_one_however_it_is_shown(home: str) -> None:
    path = home.replace("+", " ")
    # A directory that is called home may be a program's, but for what only users have in it.
    assert is_home(host_path(path)) is (home != "/srv/home/u")
    for below in (".claude", ".config/some-tool/token", "AppData/Roaming/Postman"):
        assert login(host_path(f"{path}/{below}"))


@pytest.mark.parametrize("path", OF_THE_HOST)
def test_what_the_host_logs_in_with_or_keeps_of_others(path: str) -> None:
    assert login(host_path(path))


@pytest.mark.parametrize("path", FREE)
def test_what_only_sounds_like_it_is_free(path: str) -> None:
    found = host_path(path)
    assert (login(found), doubtful(found), agent(found, "/x"), engine(found, "/x"), is_home(found)) == (
        *("", "", "", ""),
        False,
    )


ENGINE_VARIABLES = listed(
    """
    DOCKER_HOST=unix:///x/d CONTAINER_HOST=unix:///x/d BUILDKIT_HOST=unix:///x/d CONTAINERD_ADDRESS=/x/d
    CONTAINER_RUNTIME_ENDPOINT=unix:///x/d IMAGE_SERVICE_ENDPOINT=unix:///x/d DOCKER_SOCK=/x/d
    CONTAINERD_SOCK=/x/d TESTCONTAINERS_DOCKER_SOCKET_OVERRIDE=/x/d
    """
)
AGENT_VARIABLES = listed(
    """
    SSH_AUTH_SOCK=/x/d SSH_TPM_AUTH_SOCK=/x/d VSCODE_GIT_IPC_HANDLE=/x/d REMOTE_CONTAINERS_IPC=/x/d
    VSCODE_IPC_HOOK_CLI=/x/d REMOTE_CONTAINERS_SOCKETS=["/elsewhere","/x/d"] TMUX=/x/d,123,0
    P11_KIT_SERVER_ADDRESS=unix:path=/x/d GPG_AGENT_INFO=/x/d:1:1 SPIFFE_ENDPOINT_SOCKET=unix:///x/d
    VAULT_AGENT_ADDR=unix:///x/d DBUS_SYSTEM_BUS_ADDRESS=unix:path=/x/d,guid=1 PCSCLITE_CSOCK_NAME=/x/d
    """
)


@pytest.mark.parametrize("variable", ENGINE_VARIABLES)
def test_what_a_variable_names_as_an_engine_is_one(variable: str) -> None:
    name, _, value = variable.partition("=")
    assert "/x/d" in engines_in([(name, value)])
    assert _declared("/srv/anything", "FS-03", variable) is Result.FAIL


@pytest.mark.parametrize("variable", AGENT_VARIABLES)
def test_what_a_variable_names_as_an_agent_is_one(variable: str) -> None:
    name, _, value = variable.partition("=")
    assert "/x/d" in agents_in([(name, value)])
    assert _declared("/srv/anything", "SEC-03", variable) is Result.FAIL


@pytest.mark.parametrize(
    "variable", ["DOCKER_HOST=tcp://engine:2376/x", "DOCKER_CONFIG=/x", "SOCKS_PROXY=/x", "VAULT_AGENT_ADDR=http://h/x"]
)
def test_an_address_and_another_variable_name_none(variable: str) -> None:
    assert {_declared("/srv/anything", control, variable) for control in ("FS-03", "SEC-03")} == {Result.PASS}


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("/proc/1/root", Result.FAIL),
        ("/proc/1/root/home/u", Result.FAIL),
        ("/sys/fs/cgroup", Result.FAIL),
        ("C:\\Windows", Result.FAIL),
        ("/System", Result.FAIL),
        ("/nix/store", Result.PASS),
        ("/usr/share/zoneinfo", Result.PASS),
        ("/System/Library/Fonts", Result.PASS),
        ("/systems/data", Result.PASS),
    ],
)
def test_a_system_directory_and_what_only_the_kernel_serves_is_right_by_no_declaration(
    source: str, result: Result
) -> None:
    assert _declared(source, "FS-02") is result


def _declared(source: str, control: str, variable: str = "A=b") -> Result:
    def mutate(world: World) -> None:
        world.bind(source, "/x")
        world.declare(mounts=frozenset({"/x"}))
        world.config["Env"].append(variable)

    return changed(mutate).results()[control]
