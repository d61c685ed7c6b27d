"""The conditions of a sandbox and the closed set of their reasons."""

from enum import StrEnum


class ConditionType(StrEnum):
    """Every type is written on the first reconcile, `Unknown` where it is."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    COMPLIANT = "Compliant"
    ISOLATED = "IsolationVerified"
    CREDENTIALS = "CredentialsCurrent"
    DRIFTED = "Drifted"


class ConditionStatus(StrEnum):
    """As metav1.ConditionStatus."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Reason(StrEnum):
    """Why a condition has its status. Documented for users; none is ever built from data."""

    # Ready
    SANDBOX_READY = "SandboxReady"
    POD_NOT_READY = "PodNotReady"
    POD_PENDING = "PodPending"
    POD_UNSCHEDULABLE = "PodUnschedulable"
    POD_FAILED = "PodFailed"
    POD_TERMINATING = "PodTerminating"
    NODE_LOST = "NodeLost"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CONTAINER_FAILING = "ContainerFailing"
    SUSPENDED = "Suspended"
    # Reconciling
    PROGRESSING = "Progressing"
    RETRYING = "Retrying"
    UP_TO_DATE = "UpToDate"
    # Stalled, and Ready=False with it
    INVALID_SPEC = "InvalidSpec"
    FOREIGN_OBJECT = "ForeignObject"
    SECRET_NOT_FOUND = "SecretNotFound"
    SECRET_NOT_OPTED_IN = "SecretNotOptedIn"
    SECRET_KEY_MISSING = "SecretKeyMissing"
    PERMISSION_DENIED = "PermissionDenied"
    REJECTED = "Rejected"
    NOT_STALLED = "NotStalled"
    # Compliant
    ALL_CONTROLS_PASS = "AllControlsPass"
    CONTROLS_FAIL = "ControlsFail"
    CONTROLS_UNKNOWN = "ControlsUnknown"
    NOT_EVALUATED = "NotEvaluated"
    # IsolationVerified
    POLICY_IN_PLACE = "PolicyInPlace"
    POLICY_WIDENED = "PolicyWidened"
    POLICY_MISSING = "PolicyMissing"
    NOT_PROBED = "NotProbed"
    # CredentialsCurrent
    KEY_MOUNTED = "KeyMounted"
    KEY_UPDATING = "KeyUpdating"
    KEY_NOT_OBSERVED = "KeyNotObserved"
    # Drifted
    IN_SYNC = "InSync"
    POD_DRIFTED = "PodDrifted"
    SPEC_CHANGED = "SpecChanged"
    # any
    OBSERVATION_FAILED = "ObservationFailed"
    NO_WORKLOAD = "NoWorkload"
