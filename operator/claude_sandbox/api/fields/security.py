"""What can be tightened beyond the defaults."""

from typing import Annotated

from pydantic import Field

from claude_sandbox.api import names
from claude_sandbox.api.fields.strict import Strict
from claude_sandbox.api.model import Choice
from claude_sandbox.api.rules import Rule


class SeccompProfileType(Choice):
    """Which filter of system calls the kernel holds the agent to. There is none without one."""

    RUNTIME_DEFAULT = "RuntimeDefault"
    STRICT = "Strict"


class SeccompProfile(Strict):
    """The filter of system calls, as a container's securityContext has one."""

    type: SeccompProfileType = SeccompProfileType.RUNTIME_DEFAULT
    """RuntimeDefault: what the runtime lets through. Strict: only what Claude Code and ordinary development need.

    Strict also refuses debuggers, sockets but for IP, Unix and route netlink, and 32-bit programs. On Kubernetes it is
    a file on the nodes, and the operator's administrator has to say where (`--strict-seccomp-profile`). Unconfined and
    profiles of one's own can't be chosen.
    """


class AppArmorProfileType(Choice):
    """Whose profile of AppArmor the kernel holds the agent to."""

    RUNTIME_DEFAULT = "RuntimeDefault"
    LOCALHOST = "Localhost"


# What turns AppArmor off is no profile, by whatever name it is asked for.
_CONFINES = Rule(
    "!(self.lowerAscii() in ['unconfined'])",
    lambda name: name.lower() != "unconfined",
    "must be the name of a profile: without spec.security.appArmorProfile it is the machine's own",
)


class AppArmorProfile(Strict):
    """A profile of AppArmor, as a container's securityContext has one."""

    type: AppArmorProfileType
    """RuntimeDefault: the runtime's own, and no workload on a machine without AppArmor. Localhost: one of the machine's
    that the operator's administrator allows (`--apparmor-profile`). Unconfined can't be chosen.
    """
    localhost_profile: (
        Annotated[str, Field(min_length=1, max_length=128), names.APP_ARMOR_PROFILE, _CONFINES] | None
    ) = None
    """The name of the profile, with type Localhost."""

    RULES = (
        Rule(
            "has(self.localhostProfile) == (self.type == 'Localhost')",
            lambda profile: (profile.localhost_profile is not None) == (profile.type is AppArmorProfileType.LOCALHOST),
            "belongs to type Localhost and has to be there then: write the profile's name, or type RuntimeDefault"
            " without it",
            field="localhostProfile",
        ),
    )


class Security(Strict):
    """What can be tightened beyond the defaults. Nothing here can loosen them."""

    seccomp_profile: SeccompProfile = SeccompProfile()
    """Which system calls the kernel carries out for the agent."""
    app_armor_profile: AppArmorProfile | None = None
    """What AppArmor lets the agent do. Without it the runtime's own profile, on machines that have AppArmor."""
    runtime_class_name: Annotated[str, Field(min_length=1, max_length=253), names.RUNTIME_CLASS] | None = None
    """The RuntimeClass of the pod, on Docker a runtime of the host: a stronger boundary, as gVisor or Kata Containers.

    An administrator has to allow it: the operator's (`--runtime-class`), or the DockerHost's (`spec.allowedRuntimes`).
    """
    user_namespace: bool = False
    """Whether users in the pod are other users on the node (hostUsers: false), where the cluster's nodes can do that.

    It is for backend type Kubernetes: a Docker Engine remaps the users of all containers, or of none.
    """
    executable_scratch: bool = True
    """Whether programs in /tmp and in the home directory can be run, as `go test`, `npx` and `pip install --user` do.

    With false both are mounted noexec. That is depth and no wall: an interpreter of the image still reads a script from
    there, and a writable workspace still holds programs. It is for backend type Docker, since a pod's emptyDir takes no
    mount options.
    """

    @property
    def strict_seccomp(self) -> bool:
        return self.seccomp_profile.type is SeccompProfileType.STRICT
