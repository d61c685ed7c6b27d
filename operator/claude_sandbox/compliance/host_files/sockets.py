"""Sockets of a host that mean power over it: of engines, and of agents that sign for its users. Pure.

Of containers and of pods. Paths are of the host: normal, with /run and never /var/run. Where each listens is told by
its own documents; a directory that holds such a socket is as good as the socket.
"""

import posixpath
import re
from collections.abc import Iterable, Iterator

_ENGINES = (
    # Where runtimes and the kubelet listen by default; /var/run is the same directory as /run.
    "/run/buildkit/buildkitd.sock",
    "/run/containerd/containerd.sock",
    "/run/cri-dockerd.sock",
    "/run/crio/crio.sock",
    "/run/docker.sock",
    "/run/k0s/containerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/var/lib/kubelet/pod-resources/kubelet.sock",
    "/var/lib/kubelet/device-plugins/kubelet.sock",
    "/var/snap/microk8s/common/run/containerd.sock",
    "/var/snap/docker/common/run/docker.sock",
    "/run/snap.docker/containerd/containerd.sock",
    "/run/docker/containerd/containerd.sock",
    "/run/docker/metrics.sock",
    "/run/balena-engine.sock",
    "/run/frakti.sock",
    "/run/nri/nri.sock",
    "/run/incus/unix.socket",
    "/run/lxd.socket",
    # What else starts programs or machines as root for whoever may speak with it.
    "/run/firecracker.socket",
    "/run/libvirt/libvirt-sock",
    "/run/libvirt/virtqemud-sock",
    "/run/multipass_socket",
    "/run/snapd.socket",
    "/run/systemd/private",
    "/var/lib/incus/unix.socket",
    "/var/lib/lxd/unix.socket",
    "/var/snap/lxd/common/lxd/unix.socket",
    "/var/snap/multipass/common/multipass_socket",
    # Docker Desktop's, in its virtual machine: the engine's own, and the one that it gives to containers.
    "/run/host-services/docker.proxy.sock",
    "/run/guest-services/docker.sock",
)
# The same on Windows, in what its subsystem for Linux shares. A directory above may be anything's on another host.
_ENGINES_OF_WSL = (
    "/mnt/wsl/docker-desktop/shared-sockets/guest-services/docker.sock",
    "/mnt/wsl/docker-desktop/shared-sockets/host-services/docker.proxy.sock",
    "/mnt/wsl/shared-docker/docker.sock",
    "/mnt/wsl/rancher-desktop/run/docker.sock",
    "/mnt/wsl/podman-sockets/podman-machine-default/podman-root.sock",
)
_ENGINE_NAMES = re.compile(
    # Whatever stands before or after an engine's name in that of a socket.
    r"(?:[^/]*[._-])?(?:docker|dockerd|dockershim|podman|containerd|buildkitd?|balena|crio|cri-o|nerdctl|finch|nri"
    r"|isulad|pouchd|pouchcri|sycri|kubelet|machined)"
    r"(?:[._-][^/]*)?\.sock(?:et)?(?:\.(?:raw|ttrpc))?|docker\.sock\.[a-z]+|io\.podman"
)
_RUN_BY_ENGINES = (
    "docker|containerd|crio|cri-o|buildkit|podman|k3s|k0s|rke2|guest-services|host-services|nri|incus|nerdctl|snap\\.docker"
    "|libvirt|vc|kata-containers|machined|lxd|runc|crun|qemu-server|docker-desktop"
)
# Of engines without root and of those in a virtual machine on the user's own; `(?:/.*)?` where all below is theirs.
_ENGINE_PLACES = re.compile(
    r"/run/user(?:/\d+(?:/(?:podman|docker|buildkit[^/]*|containerd[^/]*|libpod|dockerd-rootless|nerdctl|runc|crun"
    r"|snap\.docker)(?:/.*)?)?)?"
    rf"|(?:/system)?/run/(?:{_RUN_BY_ENGINES})(?:/.*)?|/var/snap/docker/common/run|/tmp/podman-run-\d+(?:/.*)?"
    r"|/var/folders(?:/[^/]+){1,3}/podman|/opt/orbstack-guest(?:/run)?"
    r"|/(?:mnt/)?wsl/(?:docker-desktop|shared-docker|rancher-desktop|podman-sockets(?:/.*)?)"
    r"(?:/(?:shared-sockets(?:/.*)?|run))?"
    r"|.*/(?:\.docker(?:/(?:run|desktop)(?:/.*)?)?|\.colima(?:/[^/]+)?|\.config/colima(?:/[^/]+)?|\.orbstack(?:/run)?"
    r"|\.rd|\.lima(?:/[^/]+(?:/sock)?)?|\.lima/[^/]+/(?:ha|ssh|ga)\.sock|\.finch"
    r"|(?:\.local/share|\.config)/containers/podman(?:/machine.*)?)"
    r"|.*/library/(?:containers/com\.docker\.docker(?:/data(?:/.*)?)?|application support/rancher-desktop(?:/.*)?)"
    r"|.*/appdata/local/docker(?:/run)?|/applications/finch(?:/lima(?:/data(?:/.*)?)?)?|/pipe(?:/.*)?"
)
# What runs programs for one user, or types and shows what he types: his service manager, terminals and displays.
_SESSIONS = re.compile(
    r"/run/user/\d+/(?:systemd/private|emacs(?:/.*)?|tmux-\d+(?:/.*)?|zellij(?:/.*)?|wezterm(?:/.*)?|nvim\.[^/]*"
    r"|wayland-\d+|sway-ipc[^/]*|i3(?:/.*)?|hypr(?:/.*)?)|/run/user/\d+/systemd"
    r"|/tmp/(?:tmux-\d+|emacs\d+|zellij-\d+|\.x11-unix|\.ice-unix)(?:/.*)?|/run/screens?(?:/.*)?|/mnt/wslg(?:/.*)?"
)

_AGENTS = re.compile(
    # OpenSSH's, and what forwards it.
    r".*/ssh-[^/]+/agent\.\d+|.*/ssh-[a-z0-9]{10,}|.*/[^/]*ssh[-_.]?auth[-_.]?sock(?:et)?[^/]*"
    r"|.*/[^/]*ssh[-_](?:[a-z0-9]+[-_])?agent[^/]*\.sock(?:et)?"
    r"|/(?:run|tmp|var)/(?:.*/)?[^/]*ssh[-_]?(?:[a-z0-9]+[-_])?agent[^/]*|/ssh-?agent|.*/openssh_agent"
    r"|.*/(?:ssh|yubikey|age|gpg)-agent[.-]socket|/tmp/launch-[a-z0-9]+(?:/.*)?"
    # Any other that calls itself so, where only one user's programs listen.
    r"|(?:/home/[^/]+|/users/[^/]+|/root|/run/user/\d+)/(?:.*/)?(?:[^/]*[._-])?agent\.sock(?:et)?|.*/\.[^/]+/(?:.*/)?ssh[-_]?agent(?:\.ssh|/socket|/s\.[^/]*)"
    # GnuPG's, smart cards, keyrings, and the bus on which keyrings answer.
    r"|.*/s\.(?:gpg-agent|scdaemon|keyboxd)[^/]*|.*/gpg-[a-z0-9]{6}(?:/.*)?|/run/user/\d+/(?:gnupg|keyring|gcr|credentials|yubikey-agent|rbw|keepassxc"
    r"|p11-kit|kwallet[^/]*|app/org\.keepassxc\.keepassxc|org\.keepassxc\.keepassxc)(?:/.*)?"
    r"|/run/user/\d+/(?:bus|(?:dbus-1|at-spi)(?:/.*)?)|/tmp/dbus-[a-z0-9]{6,}"
    r"|.*/keyring(?:-[a-z0-9]+)?/(?:ssh|\.ssh|pkcs11|gpg|control)|.*/keyring-[a-z0-9]{6}|.*/kwalletd?\d*[^/]*\.socket"
    r"|.*org\.keepassxc\.keepassxc\.browserserver|/run/pcscd(?:/pcscd\.comm)?|/run/dbus(?:/.*)?|/run/tpm2[^/]*"
    # A host's place in a private network, and a password manager's program that answers its command.
    r"|/run/tailscale(?:/.*)?|.*/op-daemon\.sock|.*/(?:secretive|doppler)\.sock"
    # One of a program whose name says that it signs, wherever it was installed; and where one user's programs have
    # their sockets, what is called an agent or answers ssh.
    r"|.*/(?:yubikey|piv|pkcs11|tkey(?:-ssh)?|ssh-tpm|keepassxc|goldwarden|krypton|secretive|bitwarden)-?(?:ssh-)?agent"
    r"(?:/[^/]*)?\.sock(?:et)?"
    r"|/run/user/\d+/(?:.*/)?(?:[^/]*agent[^/]*(?:/.*)?|\.?ssh(?:\.sock(?:et)?)?)|/run/user/\d+/goldwarden[^/]*"
    r"|/tmp/teleport[^/]*/[^/]*agent[^/]*|/tmp/auth-agent\d+(?:/.*)?"
    # What hands out tickets and tokens, or lends an editor's logins to whatever connects.
    r"|/run/\.heim_org\.h5l\.kcm-socket|/run/munge(?:/.*)?|/run/gssproxy[^/]*|.*/vault(?:[-_]?agent)?(?:/[^/]*)?/?agent\.sock(?:et)?"
    r"|.*/git/credential/socket|.*/\.git-credential-cache/socket"
    r"|.*/[a-z]+-(?:git|ipc|ssh-auth|remote-containers(?:-ipc)?)-[0-9a-f-]+\.sock"
    # Password managers', macOS's and Windows' agents.
    r"|.*/(?:\.1password|2bua8c4s2c\.com\.1password)(?:/.*)?|.*/\.?bitwarden-ssh-agent\.sock|.*/com\.bitwarden\.desktop(?:/.*)?"
    r"|.*/com\.maxgoodman\.secretive\.[^/]*(?:/.*)?|.*/com\.apple\.launchd\.[^/]*(?:/.*)?|.*/(?:s\.)?pageant[^/]*"
    r"|.*/(?:wsl2?|win)-?(?:ssh|gpg|pageant)[^/]*\.sock|/pipe/openssh-ssh-agent|/run/spire(?:/.*)?|.*/spire-agent(?:/.*)?"
)
# Directories that hold such sockets, whatever else is in them.
_AGENT_PLACES = re.compile(
    r"/run|/run/user(?:/\d+)?|/run/host-services|/private/tmp|/mnt/wslg(?:/runtime-dir(?:/.*)?)?"
)

_NAMES_ENGINE = re.compile(
    r"DOCKER_HOST|CONTAINER_HOST|BUILDKIT_HOST|CONTAINERD_ADDRESS|(?:CONTAINER_RUNTIME|IMAGE_SERVICE)_ENDPOINT"
    r"|(?:.*_)?(?:DOCKER|PODMAN|CONTAINERD|CRIO|BUILDKITD?)_?SOCK(?:ET)?(?:_.*)?"
)
_NAMES_AGENT = re.compile(
    r"SSH_AUTH_SOCK|SSH_AGENT_SOCK|.*_AUTH_SOCK|GPG_AGENT_INFO|GNOME_KEYRING_(?:CONTROL|SOCKET)"
    r"|DBUS_(?:SESSION|SYSTEM)_BUS_ADDRESS|VSCODE_GIT_IPC_HANDLE|VSCODE_IPC_HOOK(?:_CLI)?|REMOTE_CONTAINERS_(?:IPC|SOCKETS)"
    r"|P11_KIT_SERVER_ADDRESS|SPIFFE_ENDPOINT_SOCKET|VAULT_AGENT_ADDR|PCSCLITE_CSOCK_NAME|TMUX"
)
# A path as such variables have it: alone, of a scheme, as D-Bus writes an address, before a process and a version
# (GPG_AGENT_INFO), or one of a list in JSON.
_PATH = re.compile(r"(?:^|[\"=:,])(?:[a-z]+:)?(/[^\s,:;\"]*)")


def engine(host: str, place: str) -> str:
    """Whether a path of the host is or holds an engine's socket: the end of a sentence about `place`, or empty."""
    path = host.casefold()
    held = [socket for socket in _ENGINES if path == "/" or f"{socket}/".startswith(f"{path}/")]
    held += [socket for socket in _ENGINES_OF_WSL if path != "/mnt" and f"{socket}/".startswith(f"{path}/")]
    if held:
        return f"holds the host's {held[0]}"
    names = (posixpath.basename(path), posixpath.basename(place.casefold()))
    if any(map(_ENGINE_NAMES.fullmatch, names)) or _ENGINE_PLACES.fullmatch(path):
        return f"is or holds an engine's socket, the host's {host}"
    if _SESSIONS.fullmatch(path):
        return f"is or holds what runs programs, or types, for a user of the host, the host's {host}"
    return ""


def agent(host: str, place: str) -> str:
    """The same of an agent that signs for a user of the host, by its path there or in the container."""
    path = host.casefold()
    if path == "/" or _AGENT_PLACES.fullmatch(path):
        return f"holds the sockets of agents that sign for users of the host, in its {host}"
    if _AGENTS.fullmatch(path) or _AGENTS.fullmatch(place.casefold()):
        return "is the socket of an agent that signs for a user of the host"
    return ""


def engines_in(environment: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """The paths in the container at which variables name the socket of an engine."""
    return tuple(_named(_NAMES_ENGINE, environment))


def agents_in(environment: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """The paths in the container at which variables name the socket of an agent."""
    return tuple(_named(_NAMES_AGENT, environment))


def _named(names: re.Pattern[str], environment: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, value in environment:
        if names.fullmatch(name):
            # A path after a host's name is an address's.
            found = [] if value.startswith(("tcp:", "http:", "https:", "ssh:")) else _PATH.findall(value)
            yield from (posixpath.normpath("/" + path.lstrip("/")) for path in found)
