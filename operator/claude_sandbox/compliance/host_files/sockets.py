"""Sockets of a host that mean power over it: of engines, and of agents that sign for its users. Pure.

Of containers and of pods. Paths are of the host: normal, with /run and never /var/run. Where each listens is told by
its own documents; a directory that holds such a socket is as good as the socket.
"""

import posixpath
import re

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
    "/var/snap/microk8s/common/run/containerd.sock",
    "/run/docker/containerd/containerd.sock",
    "/run/docker/metrics.sock",
    "/run/balena-engine.sock",
    "/run/nri/nri.sock",
    "/run/incus/unix.socket",
    "/run/lxd.socket",
    # What else starts programs or machines as root for whoever may speak with it.
    "/run/libvirt/libvirt-sock",
    "/run/libvirt/virtqemud-sock",
    "/run/snapd.socket",
    "/run/systemd/private",
    "/var/lib/incus/unix.socket",
    "/var/lib/lxd/unix.socket",
    "/var/snap/lxd/common/lxd/unix.socket",
    # Docker Desktop's, in its virtual machine: the engine's own, and the one that it gives to containers.
    "/run/host-services/docker.proxy.sock",
    "/run/guest-services/docker.sock",
    "/mnt/wsl/docker-desktop/shared-sockets/guest-services/docker.sock",
    "/mnt/wsl/docker-desktop/shared-sockets/host-services/docker.proxy.sock",
    "/mnt/wsl/shared-docker/docker.sock",
    "/mnt/wsl/rancher-desktop/run/docker.sock",
)
_ENGINE_NAMES = re.compile(
    r"docker(?:[._-](?:raw|proxy|cli|engine))?\.sock|dockerd?shim\.sock|dockerd\.sock|docker-[a-z0-9]+\.sock"
    r"|cri-dockerd\.sock|containerd(?:-debug)?\.sock(?:\.ttrpc)?|crio\.sock|buildkitd?(?:-[a-z]+)?\.sock"
    r"|podman(?:-[a-z0-9-]+)?\.sock|finch\.sock|nerdctl\.sock|balena(?:-engine)?\.sock|nri\.sock"
)
# Of engines without root and of those in a virtual machine on the user's own; `(?:/.*)?` where all below is theirs.
_ENGINE_PLACES = re.compile(
    r"/run/user(?:/\d+(?:/(?:podman|docker|buildkit[^/]*|containerd[^/]*|libpod|dockerd-rootless))?)?"
    r"|/run/(?:docker|containerd|crio|buildkit|podman|k3s|k0s|cri-o|guest-services|host-services|nri|incus)"
    r"|/(?:mnt/)?wsl/(?:docker-desktop|shared-docker|rancher-desktop)(?:/(?:shared-sockets(?:/.*)?|run))?"
    r"|.*/(?:\.docker(?:/(?:run|desktop))?|\.colima(?:/[^/]+)?|\.config/colima(?:/[^/]+)?|\.orbstack(?:/run)?|\.rd"
    r"|\.lima(?:/[^/]+(?:/sock)?)?|\.finch|\.local/share/containers/podman(?:/machine.*)?)"
    r"|.*/library/(?:containers/com\.docker\.docker(?:/data(?:/.*)?)?|application support/rancher-desktop(?:/.*)?)"
    r"|.*/appdata/local/docker(?:/run)?|/applications/finch(?:/lima(?:/data(?:/.*)?)?)?|/pipe(?:/.*)?"
)

_AGENTS = re.compile(
    # OpenSSH's, and what forwards it.
    r".*/ssh-[^/]+/agent\.\d+|.*/ssh-[a-z0-9]{10,}|.*/[^/]*ssh[-_.]?auth[-_.]?sock(?:et)?[^/]*|.*/[^/]*ssh[-_]agent[^/]*\.sock(?:et)?"
    r"|/(?:run|tmp|var)/(?:.*/)?[^/]*ssh[-_]?agent[^/]*|/ssh-?agent|.*/openssh_agent|.*/(?:ssh|yubikey|age|gpg)-agent\.socket"
    # GnuPG's, smart cards, keyrings, and the bus on which keyrings answer.
    r"|.*/s\.(?:gpg-agent|scdaemon|keyboxd)[^/]*|.*/gpg-[a-z0-9]{6}(?:/.*)?|/run/user/\d+/(?:gnupg|keyring|gcr|yubikey-agent"
    r"|kwallet[^/]*|app/org\.keepassxc\.keepassxc|org\.keepassxc\.keepassxc)(?:/.*)?|/run/user/\d+/(?:bus|dbus-1|at-spi)"
    r"|.*/keyring(?:-[a-z0-9]+)?/(?:ssh|\.ssh|pkcs11|gpg|control)|.*/kwalletd?\d*[^/]*\.socket"
    r"|.*org\.keepassxc\.keepassxc\.browserserver|/run/pcscd(?:/pcscd\.comm)?|/run/dbus"
    # Password managers', macOS's and Windows' agents.
    r"|.*/(?:\.1password|2bua8c4s2c\.com\.1password)(?:/.*)?|.*/\.?bitwarden-ssh-agent\.sock|.*/com\.bitwarden\.desktop(?:/.*)?"
    r"|.*/com\.maxgoodman\.secretive\.[^/]*(?:/.*)?|.*/com\.apple\.launchd\.[^/]*(?:/.*)?|.*/(?:s\.)?pageant[^/]*"
    r"|.*/(?:wsl2?|win)-?(?:ssh|gpg|pageant)[^/]*\.sock|/pipe/openssh-ssh-agent|/run/spire(?:/.*)?|.*/spire-agent(?:/.*)?"
)
# Directories that hold such sockets, whatever else is in them.
_AGENT_PLACES = re.compile(r"/run|/run/user(?:/\d+)?|/run/host-services|/private/tmp")
_NAMED_BY = {"SSH_AUTH_SOCK", "SSH_AGENT_SOCK", "GPG_AGENT_INFO", "GNOME_KEYRING_CONTROL", "DBUS_SESSION_BUS_ADDRESS"}


def engine(host: str, place: str) -> str:
    """Whether a path of the host is or holds an engine's socket: the end of a sentence about `place`, or empty."""
    path = host.casefold()
    held = [socket for socket in _ENGINES if path == "/" or f"{socket}/".startswith(f"{path}/")]
    if held:
        return f"holds the host's {held[0]}"
    names = (posixpath.basename(path), posixpath.basename(place.casefold()))
    if any(map(_ENGINE_NAMES.fullmatch, names)) or _ENGINE_PLACES.fullmatch(path):
        return f"is or holds an engine's socket, the host's {host}"
    return ""


def agent(host: str, place: str) -> str:
    """The same of an agent that signs for a user of the host, by its path there or in the container."""
    path = host.casefold()
    if path == "/" or _AGENT_PLACES.fullmatch(path):
        return f"holds the sockets of agents that sign for users of the host, in its {host}"
    if _AGENTS.fullmatch(path) or _AGENTS.fullmatch(place.casefold()):
        return "is the socket of an agent that signs for a user of the host"
    return ""


def agents_in(environment: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    """The paths in the container at which variables name the socket of an agent."""
    found = []
    for name, value in environment:
        if name in _NAMED_BY or name.endswith("_AUTH_SOCK"):
            path = value.removeprefix("unix:path=").partition(",")[0].partition(":")[0]
            found += [posixpath.normpath("/" + path.lstrip("/"))] if path.startswith("/") else []
    return tuple(found)
