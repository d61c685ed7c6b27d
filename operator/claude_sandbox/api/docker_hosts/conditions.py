"""The conditions of a Docker host and the closed set of their reasons."""

from collections.abc import Mapping
from enum import StrEnum


class HostConditionType(StrEnum):
    """Every type is written on the first reconcile, `Unknown` where it is."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    COMPLIANT = "Compliant"
    DRAINED = "Drained"
    CERTIFICATES_CURRENT = "CertificatesCurrent"


class HostReason(StrEnum):
    """Why a condition has its status. Documented for users; none is ever built from data."""

    # Ready
    ENGINE_READY = "EngineReady"
    ENGINE_UNREACHABLE = "EngineUnreachable"
    ENGINE_SLOW = "EngineSlow"
    NOT_YET_CONTACTED = "NotYetContacted"
    # Stalled, and Ready=False with it
    INVALID_SPEC = "InvalidSpec"
    SECRET_NOT_FOUND = "SecretNotFound"
    SECRET_NOT_OPTED_IN = "SecretNotOptedIn"
    SECRET_KEY_MISSING = "SecretKeyMissing"
    SECRET_INVALID = "SecretInvalid"
    PERMISSION_DENIED = "PermissionDenied"
    ACCESS_DENIED = "AccessDenied"
    ENGINE_UNTRUSTED = "EngineUntrusted"
    ENGINE_UNSUPPORTED = "EngineUnsupported"
    DUPLICATE_ENGINE = "DuplicateEngine"
    HOST_COMPROMISED = "HostCompromised"
    NOT_STALLED = "NotStalled"
    # Reconciling
    CONNECTING = "Connecting"
    UP_TO_DATE = "UpToDate"
    # Compliant
    ALL_CONTROLS_PASS = "AllControlsPass"
    CONTROLS_FAIL = "ControlsFail"
    CONTROLS_UNKNOWN = "ControlsUnknown"
    NOT_EVALUATED = "NotEvaluated"
    # Drained
    NOT_DRAINING = "NotDraining"
    DRAINING = "Draining"
    SANDBOXES_STAY = "SandboxesStay"
    NO_SANDBOX_LEFT = "NoSandboxLeft"
    # CertificatesCurrent
    CERTIFICATES_LAST = "CertificatesLast"
    CERTIFICATE_DUE = "CertificateDue"
    CERTIFICATE_EXPIRED = "CertificateExpired"
    NO_CERTIFICATES = "NoCertificates"
    CERTIFICATES_UNREAD = "CertificatesUnread"


HOST_CONDITIONS: Mapping[HostConditionType, str] = {
    HostConditionType.READY: "The engine answers, and sandboxes can run on it. Unknown when it stopped answering: what"
    " runs there is left alone.",
    HostConditionType.RECONCILING: "The operator tries to reach the engine.",
    HostConditionType.STALLED: "The host can't be used until somebody acts; the message says what to do.",
    HostConditionType.COMPLIANT: "Every required control of the host passes. One that fails makes it False, else one"
    " that could not be verified makes it Unknown.",
    HostConditionType.DRAINED: "The host is being drained, and no sandbox is left on it. Unknown while it can't be"
    " drained because it does not answer.",
    HostConditionType.CERTIFICATES_CURRENT: "The certificates of its Secret last for 30 days and more. False before"
    " they end, so that there is time to make others.",
}
"""What it means that a condition is True."""

HOST_MEANINGS: Mapping[HostReason, str] = {
    HostReason.ENGINE_READY: "The engine answers.",
    HostReason.ENGINE_UNREACHABLE: "The engine has not answered for too long, or never did. Nothing is deleted, and no"
    " sandbox is placed on it or moved from it, while that lasts.",
    HostReason.ENGINE_SLOW: "The engine answers its ping, but several calls in a row, of those that make sandboxes or"
    " look at them, were not answered in time. Nothing is asked of it for a while.",
    HostReason.NOT_YET_CONTACTED: "The engine has not been asked yet.",
    HostReason.INVALID_SPEC: "The spec or the metadata has fields that are refused.",
    HostReason.SECRET_NOT_FOUND: "There is no Secret of that name in the operator's own namespace.",
    HostReason.SECRET_NOT_OPTED_IN: "The Secret is there, but nobody said that it is for connecting to Docker hosts.",
    HostReason.SECRET_KEY_MISSING: "The Secret lacks a key that is needed.",
    HostReason.SECRET_INVALID: "What the Secret holds is no certificate or key, or the two don't belong together.",
    HostReason.PERMISSION_DENIED: "The operator's role does not let it read the Secret.",
    HostReason.ACCESS_DENIED: "The engine, its socket or the ssh server refuses the operator.",
    HostReason.ENGINE_UNTRUSTED: "Who answers could not prove to be the host: the certificate or the host key is not"
    " the expected one.",
    HostReason.ENGINE_UNSUPPORTED: "It is no Docker Engine that sandboxes can run on: too old, not on Linux, or another"
    " program.",
    HostReason.DUPLICATE_ENGINE: "An older DockerHost stands for the same engine, or one that is compromised.",
    HostReason.HOST_COMPROMISED: "spec.incident says that somebody else may be root on the host: nothing is placed"
    " there, asked of its engine or given to it. status.incident says what was there, and what to do.",
    HostReason.NOT_STALLED: "Nothing needs anybody to act.",
    HostReason.CONNECTING: "The engine is being tried again.",
    HostReason.UP_TO_DATE: "There is nothing to do.",
    HostReason.ALL_CONTROLS_PASS: "Every required control passes.",
    HostReason.CONTROLS_FAIL: "At least one required control fails; the message names them.",
    HostReason.CONTROLS_UNKNOWN: "At least one required control could not be verified, and none fails.",
    HostReason.NOT_EVALUATED: "There is nothing to measure yet.",
    HostReason.NOT_DRAINING: "spec.drain is false.",
    HostReason.DRAINING: "Sandboxes are being moved to other hosts, a few at a time.",
    HostReason.SANDBOXES_STAY: "All that could be moved is; what is left can't be, and goes on running. The message and"
    " status.drain.staying say why.",
    HostReason.NO_SANDBOX_LEFT: "No sandbox is placed on the host, and none will be.",
    HostReason.CERTIFICATES_LAST: "None of them ends within 30 days.",
    HostReason.CERTIFICATE_DUE: "One of them ends within 30 days: make another, and put it into the Secret.",
    HostReason.CERTIFICATE_EXPIRED: "One of them has ended: the engine is not reached before there is another.",
    HostReason.NO_CERTIFICATES: "The host is reached without any.",
    HostReason.CERTIFICATES_UNREAD: "The Secret, or a certificate in it, can't be read.",
}
"""What each reason says to a user."""
