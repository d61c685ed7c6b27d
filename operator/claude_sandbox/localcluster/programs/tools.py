"""The programs that a cluster is made of, each from a pinned Go module."""

from dataclasses import dataclass
from pathlib import Path

from claude_sandbox.localcluster.errors import LocalClusterError
from claude_sandbox.localcluster.programs.os_packages import Needed

MODULES = Path(__file__).parent / "modules"

# What `--kubernetes-version` takes, and the release that stands for it.
KUBERNETES_RELEASES = {"1.34": "1.34.4", "1.37": "1.37.2"}
DEFAULT_KUBERNETES = "1.34"

# What the Docker Engine that is built from source says it is: its module's version (2.0.0-beta.24) is none that
# clients know; this is the release of the command line that it was made to go with.
ENGINE_29 = "29.8.0"

KUBERNETES_PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")


@dataclass(frozen=True)
class Tool:
    """A program: its name, the version, the import path of its main package, the linker's flags."""

    name: str
    version: str
    family: str
    package: str
    linker_flags: str = "-s -w"
    tags: tuple[str, ...] = ()
    """Build constraints that are to be satisfied."""
    directory: str = ""
    """Where the program is pinned below MODULES; empty: in a directory of its family and version."""
    c: Needed | None = None
    """Packages of the distribution with the C compiler and libraries to build it with; None: it is all Go."""

    @property
    def module(self) -> Path:
        """The directory whose go.mod and go.sum pin every line of code in the program."""
        return MODULES / (self.directory or f"{self.family}-{self.version}")


_ETCD = Tool("etcd", "3.6.16", "etcd", "go.etcd.io/etcd/server/v3")
# etcd's own tools for backups, from a go.mod of theirs: etcd itself needs less.
_ETCDCTL, _ETCDUTL = (
    Tool(name, "3.6.16", "etcd-tools", f"go.etcd.io/etcd/{name}/v3") for name in ("etcdctl", "etcdutl")
)
_KUBE_ROUTER = Tool("kube-router", "2.1.0", "kube-router", "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router")
_KWOK = Tool("kwok", "0.8.0", "kwok", "sigs.k8s.io/kwok/cmd/kwok")
# A Docker Engine, its parts from one go.mod: they share most of their dependencies, which are then compiled once.
_MOBY = "moby-2.0.0-beta.24"
_ENGINE_TAGS = ("no_btrfs", "exclude_graphdriver_btrfs")
_DOCKERD = Tool(
    "dockerd", "2.0.0-beta.24", "moby", "github.com/moby/moby/v2/cmd/dockerd",
    f"-s -w -X github.com/moby/moby/v2/dockerversion.Version={ENGINE_29}", _ENGINE_TAGS, _MOBY,
)  # fmt: skip
_DOCKER_PROXY = Tool("docker-proxy", "2.0.0-beta.24", "moby", "github.com/moby/moby/v2/cmd/docker-proxy")
_CONTAINERD, _SHIM = (
    Tool(
        name, "2.3.5", "containerd", f"github.com/containerd/containerd/v2/cmd/{name}",
        "-s -w -X github.com/containerd/containerd/v2/version.Version=2.3.5", _ENGINE_TAGS, _MOBY,
    )
    for name in ("containerd", "containerd-shim-runc-v2")
)  # fmt: skip
# Its first steps in a container are written in C. Linked statically: it runs with any libseccomp, or none.
_RUNC = Tool(
    "runc", "1.3.6", "runc", "github.com/opencontainers/runc",
    "-s -w -X main.version=1.3.6 -linkmode external -extldflags -static", ("seccomp", "netgo", "osusergo"),
    c=Needed(
        ("gcc", "libc6-dev", "libseccomp-dev", "pkgconf"), ("gcc", "pkg-config"),
        ("usr/include/seccomp.h", "usr/lib/*/libseccomp.a", "usr/lib/*/libc.a"),
    ),
)  # fmt: skip
# Programs of our own, their main package beside their go.mod.
_COREDNS = Tool("coredns", "1.14.7", "coredns", ".")
_PAUSE = Tool("pause", "1", "pause", ".")
# No part of a cluster: what signs images, for tests.
_COSIGN = Tool("cosign", "3.1.3", "cosign", "github.com/sigstore/cosign/v3/cmd/cosign")
# Nor this: what keeps backups behind S3's protocol.
_VERSITYGW = Tool("versitygw", "1.8.0", "versitygw", "github.com/versity/versitygw/cmd/versitygw")
# Nor these: what makes volumes and snapshots by CSI drivers, and a driver whose snapshots are of one moment.
_SNAPSHOT_CONTROLLER, _CSI_SNAPSHOTTER = (
    Tool(name, "8.7.0", "external-snapshotter", f"github.com/kubernetes-csi/external-snapshotter/v8/cmd/{name}")
    for name in ("snapshot-controller", "csi-snapshotter")
)
_CSI_PROVISIONER = Tool(
    "csi-provisioner", "6.4.0", "external-provisioner",
    "github.com/kubernetes-csi/external-provisioner/v6/cmd/csi-provisioner",
)  # fmt: skip
_CSI_IMAGE_FILES = Tool("csi-image-files", "1", "csi-image-files", ".")
_SNAPSHOTS = (_SNAPSHOT_CONTROLLER, _CSI_SNAPSHOTTER, _CSI_PROVISIONER, _CSI_IMAGE_FILES)
_PLAIN = (_ETCD, _ETCDCTL, _ETCDUTL, _KUBE_ROUTER, _KWOK, _COREDNS, _PAUSE, _COSIGN, _VERSITYGW)
_OTHERS = {tool.name: tool for tool in (*_PLAIN, *_SNAPSHOTS)}
# What Docker Engine 29 is made of, by name. Nodes have the same containerd and runc.
ENGINE = {tool.name: tool for tool in (_DOCKERD, _DOCKER_PROXY, _CONTAINERD, _SHIM, _RUNC)}


def kubernetes_release(version: str) -> str:
    """The release for a version as people write it (`1.34`, `v1.34`, `1.34.4`).

    Raises LocalClusterError for one that isn't pinned here.
    """
    wanted = version.removeprefix("v")
    if wanted in KUBERNETES_RELEASES:
        return KUBERNETES_RELEASES[wanted]
    if wanted in KUBERNETES_RELEASES.values():
        return wanted
    known = ", ".join(f"{minor} ({release})" for minor, release in KUBERNETES_RELEASES.items())
    raise LocalClusterError(
        f"Kubernetes {version!r} is not a version this cluster can have.", f"Use one of these: {known}."
    )


def tool(name: str, kubernetes: str) -> Tool:
    """The program called `name`, of the Kubernetes release `kubernetes` (`1.34.4`) where it is a part of it.

    Raises KeyError for a name that is unknown.
    """
    if name not in KUBERNETES_PROGRAMS:
        return _OTHERS.get(name) or ENGINE[name]
    _, minor, _ = kubernetes.split(".")
    package = "k8s.io/component-base/version"
    flags = f"-s -w -X {package}.gitVersion=v{kubernetes} -X {package}.gitMajor=1 -X {package}.gitMinor={minor}"
    return Tool(name, kubernetes, "kubernetes", f"k8s.io/kubernetes/cmd/{name}", flags)
