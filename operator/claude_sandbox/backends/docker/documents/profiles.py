"""The profile of AppArmor that a container asks for, and what is said where its host can't hold it to that. Pure."""

from claude_sandbox.backends.docker.documents.hardening import APP_ARMOR
from claude_sandbox.backends.docker.engine.documents import Object


def asked_profile(container: Object) -> str:
    """As its document has it, to be made or made; empty where it asks for none."""
    options = (container.get("HostConfig") or {}).get("SecurityOpt") or ()
    return next((one.removeprefix(APP_ARMOR) for one in map(str, options) if one.startswith(APP_ARMOR)), "")


def missing_profile(name: str, asked: str, why: str) -> str:
    """Why a container can't be started, by what its engine says, with what to do; empty where that is something else.

    runc: "unable to apply apparmor profile: ... no such file or directory".
    """
    if not asked or "apparmor" not in why.lower():
        return ""
    return (
        f"Container {name} can't be started under the AppArmor profile {asked}: its host has not loaded it, or has no"
        " AppArmor. Have an administrator see to that, or remove spec.security.appArmorProfile. The engine says:"
        f" {why}"
    )
