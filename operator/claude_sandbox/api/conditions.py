"""The conditions of a sandbox and the closed set of their reasons."""

from collections.abc import Mapping
from enum import StrEnum


class ConditionType(StrEnum):
    """Every type is written on the first reconcile, `Unknown` where it is; RepositoriesReady where there are any, and
    Contained while the sandbox is quarantined, Strained while something is short, BackupVerified with spec.backup."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    COMPLIANT = "Compliant"
    ISOLATED = "IsolationVerified"
    CREDENTIALS = "CredentialsCurrent"
    REPOSITORIES = "RepositoriesReady"
    DRIFTED = "Drifted"
    CONTAINED = "Contained"
    IMAGE_CURRENT = "ImageCurrent"
    CREDENTIALS_DUE = "CredentialsDue"
    CERTIFICATE_DUE = "CertificateDue"
    BACKUP_VERIFIED = "BackupVerified"
    STRAINED = "Strained"


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
    IMAGE_NOT_USABLE = "ImageNotUsable"
    CONTAINER_FAILING = "ContainerFailing"
    PROFILE_MISSING = "ProfileMissing"
    GATEWAY_NOT_READY = "GatewayNotReady"
    PROVIDER_SILENT = "ProviderSilent"
    REPOSITORIES_NOT_READY = "RepositoriesNotReady"
    # Ready, and Stalled with it where it does not end by itself
    BUDGET_SPENT = "BudgetSpent"
    # Ready, Stalled and CredentialsCurrent
    KEY_COMPROMISED = "KeyCompromised"
    KEY_REFUSED = "KeyRefused"
    # Stalled and CredentialsCurrent
    SERVICE_CREDENTIAL_MISSING = "ServiceCredentialMissing"
    SUSPENDED = "Suspended"
    # any, of a sandbox that is quarantined
    QUARANTINED = "Quarantined"
    # any, of a sandbox on a Docker host that is compromised
    HOST_COMPROMISED = "HostCompromised"
    # Contained
    NOT_CONTAINED = "NotContained"
    # Reconciling
    PROGRESSING = "Progressing"
    RETRYING = "Retrying"
    UP_TO_DATE = "UpToDate"
    # Ready and Reconciling
    MOVING = "Moving"
    RESTORING = "Restoring"
    # Stalled, and Ready=False with it
    INVALID_SPEC = "InvalidSpec"
    FOREIGN_OBJECT = "ForeignObject"
    SECRET_NOT_FOUND = "SecretNotFound"
    SECRET_NOT_OPTED_IN = "SecretNotOptedIn"
    SECRET_KEY_MISSING = "SecretKeyMissing"
    PULL_SECRET_NOT_ALLOWED = "PullSecretNotAllowed"
    CONFIG_MAP_NOT_FOUND = "ConfigMapNotFound"
    CONFIG_MAP_REFUSED = "ConfigMapRefused"
    PERMISSION_DENIED = "PermissionDenied"
    REJECTED = "Rejected"
    CHANGED_ON_ADMISSION = "ChangedOnAdmission"
    NO_HOST = "NoHost"
    RESTORE_FAILED = "RestoreFailed"
    IMAGE_NOT_ALLOWED = "ImageNotAllowed"
    PORT_NOT_PUBLISHED = "PortNotPublished"
    NOT_STALLED = "NotStalled"
    # Compliant
    ALL_CONTROLS_PASS = "AllControlsPass"
    CONTROLS_EXCEPTED = "ControlsExcepted"
    CONTROLS_FAIL = "ControlsFail"
    CONTROLS_UNKNOWN = "ControlsUnknown"
    NOT_EVALUATED = "NotEvaluated"
    EVALUATION_FAILED = "EvaluationFailed"
    EVALUATION_OVERDUE = "EvaluationOverdue"
    # IsolationVerified
    POLICY_IN_PLACE = "PolicyInPlace"
    POLICY_WIDENED = "PolicyWidened"
    POLICY_MISSING = "PolicyMissing"
    NOT_PROBED = "NotProbed"
    PROBE_UNDER_WAY = "ProbeUnderWay"
    DESTINATION_REACHED = "DestinationReached"
    # CredentialsCurrent
    KEY_MOUNTED = "KeyMounted"
    KEY_USED = "KeyUsed"
    KEY_NOT_USED_YET = "KeyNotUsedYet"
    KEY_UPDATING = "KeyUpdating"
    KEY_NOT_OBSERVED = "KeyNotObserved"
    # RepositoriesReady
    CLONED = "Cloned"
    CLONING = "Cloning"
    CLONE_FAILED = "CloneFailed"
    NOT_CLONED = "NotCloned"
    OTHER_REPOSITORY = "OtherRepository"
    # Drifted
    IN_SYNC = "InSync"
    POD_DRIFTED = "PodDrifted"
    SPEC_CHANGED = "SpecChanged"
    # ImageCurrent
    IMAGE_NOT_DUE = "ImageNotDue"
    IMAGE_DUE = "ImageDue"
    # CredentialsDue
    KEY_NOT_DUE = "KeyNotDue"
    KEY_DUE = "KeyDue"
    # CertificateDue
    CERTIFICATE_NOT_RENEWED = "CertificateNotRenewed"
    CERTIFICATE_EXPIRED = "CertificateExpired"
    # BackupVerified
    BACKUP_NOT_DUE = "BackupNotDue"
    BACKUP_DUE = "BackupDue"
    NO_BACKUP_YET = "NoBackupYet"
    BACKUPS_GONE = "BackupsGone"
    # ImageCurrent and CredentialsDue
    AGE_NOT_KNOWN = "AgeNotKnown"
    # Strained
    OUT_OF_MEMORY = "OutOfMemory"
    NO_ROOM_LEFT = "NoRoomLeft"
    PROCESS_LIMIT_REACHED = "ProcessLimitReached"
    CPU_THROTTLED = "CPUThrottled"
    # any
    OBSERVATION_FAILED = "ObservationFailed"
    NO_WORKLOAD = "NoWorkload"


CONDITIONS: Mapping[ConditionType, str] = {
    ConditionType.READY: "The agent can work: Claude Code runs, its gateway works, the provider takes its key, and its"
    " budget is not spent; as far as the last request has shown.",
    ConditionType.RECONCILING: "The operator is still at work on the sandbox, or waits for the cluster to be.",
    ConditionType.STALLED: "Nothing will happen until somebody acts; the message says what to do.",
    ConditionType.COMPLIANT: "Every required control passes. One that fails makes it False, else one that could not be"
    " verified makes it Unknown.",
    ConditionType.ISOLATED: "Connections that are not declared were tried and refused. Policies alone never make it"
    " True.",
    ConditionType.CREDENTIALS: "The workload has the Secret's current key; with a gateway, the last answered request"
    " was made with it, or there was none yet, and every service of spec.services has its credential.",
    ConditionType.REPOSITORIES: "Every repository of spec.repositories is in the workspace, or something was there at"
    " its path before. Only of a sandbox that has any.",
    ConditionType.DRIFTED: "The workload is not what the spec asks for, and only a new one could be.",
    ConditionType.CONTAINED: "Nothing of a sandbox that is quarantined goes on, and nothing goes in or out, as was seen"
    " when it was looked at last. Only of one that is quarantined.",
    ConditionType.IMAGE_CURRENT: "The image that runs is younger than spec.due.imageMaxAge. False: it is due to be"
    " exchanged; nothing is done about that by itself.",
    ConditionType.CREDENTIALS_DUE: "The key is older than spec.due.keyMaxAge, by the last change of its Secret, and is"
    " due to be exchanged; nothing is done about that by itself.",
    ConditionType.CERTIFICATE_DUE: "The certificate by which the sandbox knows its gateway should have been renewed, by"
    " the operator itself. Only there while that is so.",
    ConditionType.BACKUP_VERIFIED: "A backup was restored and compared within spec.due.backupMaxAge. Only there with"
    " spec.backup; False: nothing is ended by it.",
    ConditionType.STRAINED: "What runs has run out of something, or is held back for want of it; the message says of"
    " what, and the remedy. Only there while that is so.",
}
"""What it means that a condition is True."""

MEANINGS: Mapping[Reason, str] = {
    Reason.SANDBOX_READY: "The pod is ready: Claude Code starts and has a key.",
    Reason.POD_NOT_READY: "The pod runs, but Claude Code can't be used in it yet or any more.",
    Reason.POD_PENDING: "The pod is being started.",
    Reason.POD_UNSCHEDULABLE: "No node can take the pod; the message says what is missing.",
    Reason.POD_FAILED: "The pod ended; a new one is made.",
    Reason.POD_TERMINATING: "The pod is being deleted.",
    Reason.NODE_LOST: "The node does not answer. No second pod is made while the first may still run on the workspace.",
    Reason.IMAGE_PULL_FAILED: "The node can't get the image.",
    Reason.IMAGE_NOT_USABLE: "The image can't run a shell on its node, so that an agent could do nothing in it.",
    Reason.CONTAINER_FAILING: "The container can't be made or does not stay up.",
    Reason.PROFILE_MISSING: "The node or Docker host lacks a profile that the kernel is to hold the sandbox to.",
    Reason.GATEWAY_NOT_READY: "The gateway, the sandbox's only way out, does not work: it reaches nothing.",
    Reason.PROVIDER_SILENT: "The model's provider does not answer the gateway; the message says how. It ends by itself"
    " when it does.",
    Reason.REPOSITORIES_NOT_READY: "The agent is let in when its repositories are cloned; RepositoriesReady says how"
    " far that is, or what is in the way.",
    Reason.BUDGET_SPENT: "The sandbox's budget lets no request through; the message says until when, and what to"
    " change.",
    Reason.KEY_COMPROMISED: "spec.incident of a sandbox of the namespace says that the key in the Secret is"
    " compromised, or it was on a Docker host that is: nothing uses it any more. It ends when another key is in the"
    " Secret.",
    Reason.KEY_REFUSED: "The model's provider refuses the key that is used now; the message has its words. It ends with"
    " another key, or with the next request that it takes.",
    Reason.SERVICE_CREDENTIAL_MISSING: "The credential of a service of spec.services can't be had: requests to it are"
    " answered with 503. The message names the field, the Secret and the remedy. All else of the sandbox works.",
    Reason.SUSPENDED: "spec.operatingMode is Suspended, or the sandbox's time is over by spec.lifecycle: there is no"
    " pod, the workspace is kept.",
    Reason.QUARANTINED: "spec.incident.state is Quarantined: nothing goes in or out, and nothing of the sandbox goes"
    " on. The message says what was kept as evidence, and what lifts it.",
    Reason.HOST_COMPROMISED: "The Docker host that the sandbox is on is declared to be compromised. Nothing of it is"
    " asked for or believed any more, and what runs there is not stopped. The message says what to do.",
    Reason.NOT_CONTAINED: "Something of a sandbox that is to be quarantined may still go on; the message says what. It"
    " is tried again.",
    Reason.PROGRESSING: "What the spec asks for is being made.",
    Reason.RETRYING: "Something failed that may pass by itself; it is tried again.",
    Reason.UP_TO_DATE: "There is nothing to do.",
    Reason.MOVING: "The sandbox's Docker host is being drained, and the sandbox is on its way to another. It is removed"
    " from the one before it is made on the other.",
    Reason.INVALID_SPEC: "The spec or the metadata has fields that are refused; nothing is started until they are"
    " corrected.",
    Reason.FOREIGN_OBJECT: "An object with a name that the sandbox needs was not made by the operator; it is left"
    " alone.",
    Reason.RESTORING: "The workspace is being filled from a backup; the agent starts after that.",
    Reason.RESTORE_FAILED: "The workspace could not be filled from the backup, or has something in it already. The"
    " agent is not started.",
    Reason.NO_HOST: "No Docker host takes the sandbox; the message says why. One that it was placed on is exchanged for"
    " another only where it is being drained, and never where files would be lost.",
    Reason.IMAGE_NOT_ALLOWED: "A ClaudeImagePolicy refuses the sandbox's image, by the rule that the message names; or"
    " the sandbox's DockerHost does not allow it, or the image has labels that are the"
    " operator's. Nothing is pulled or started; a container that runs goes on, and fails IMG-02.",
    Reason.PORT_NOT_PUBLISHED: "A declared port can't be published on the Docker host; the message says why and what to"
    " do. Everything else of the sandbox is as it should be.",
    Reason.SECRET_NOT_FOUND: "There is no Secret of that name yet; the sandbox starts when there is.",
    Reason.SECRET_NOT_OPTED_IN: "The Secret is there, but nobody said that sandboxes may use it.",
    Reason.SECRET_KEY_MISSING: "The Secret has no such key.",
    Reason.PULL_SECRET_NOT_ALLOWED: "Nobody said that images of the namespace's sandboxes may be pulled with a Secret"
    " that spec.image.pullSecretRefs names. No pod is made; one that runs goes on.",
    Reason.CONFIG_MAP_NOT_FOUND: "A ConfigMap that spec.claudeCode names is not there, or has not opted in. No"
    " workload is made; one that runs goes on with what it was told.",
    Reason.CONFIG_MAP_REFUSED: "A ConfigMap that spec.claudeCode names says what it may not, or can't be understood. No"
    " workload is made; one that runs goes on with what it was told.",
    Reason.PERMISSION_DENIED: "The operator's role does not allow what it has to do.",
    Reason.REJECTED: "The API server refuses what the sandbox needs, for example because of an admission policy.",
    Reason.CHANGED_ON_ADMISSION: "A mutating webhook or policy of the cluster changes what the operator asks for. No"
    " pod is started that is not what is declared, and one that runs is left as it is; the message says what to do.",
    Reason.NOT_STALLED: "Nothing needs anybody to act.",
    Reason.ALL_CONTROLS_PASS: "Every required control passes.",
    Reason.CONTROLS_FAIL: "At least one required control fails; the message names them.",
    Reason.CONTROLS_EXCEPTED: "Every required control passes but for exceptions of `spec.compliance.exceptions`.",
    Reason.CONTROLS_UNKNOWN: "At least one required control could not be verified, and none fails.",
    Reason.NOT_EVALUATED: "There is nothing to measure.",
    Reason.EVALUATION_FAILED: "What was to be measured made measuring it fail; the message says where. What was found"
    " before no longer counts.",
    Reason.EVALUATION_OVERDUE: "The last evaluation is too old to count: no look at the sandbox has come to its end"
    " since.",
    Reason.POLICY_IN_PLACE: "The NetworkPolicy or the network is in place, and undeclared connections were tried and"
    " could not be made.",
    Reason.POLICY_WIDENED: "Another NetworkPolicy of the namespace allows what the sandbox's own does not.",
    Reason.POLICY_MISSING: "No NetworkPolicy denies what is not declared.",
    Reason.NOT_PROBED: "The policies or networks are right; what can be reached has not been tried, or nothing was"
    " proven by that.",
    Reason.PROBE_UNDER_WAY: "The policies or networks are right; what can be reached is being tried for the first time"
    " since the operator came to know the sandbox.",
    Reason.DESTINATION_REACHED: "Something could be reached that is denied; the message names it.",
    Reason.KEY_MOUNTED: "The kubelet was told of the Secret's current generation; of a sandbox with a gateway, that it"
    " has been delivered and no request was answered with it yet.",
    Reason.KEY_USED: "The last request that the provider took was made with the Secret's current generation.",
    Reason.KEY_NOT_USED_YET: "The Secret's current generation was delivered to the gateway; the last request that the"
    " provider took was made with another one.",
    Reason.KEY_UPDATING: "A new generation of the key is being mounted.",
    Reason.KEY_NOT_OBSERVED: "The operator may not look at Secrets, so it can't say which generation is mounted.",
    Reason.CLONED: "All are there.",
    Reason.CLONING: "They are being cloned.",
    Reason.CLONE_FAILED: "At least one can't be cloned; the message has git's own words. It is tried again, later each"
    " time.",
    Reason.NOT_CLONED: "The workload was made before they were declared, and only a new one clones them.",
    Reason.OTHER_REPOSITORY: "At the path of one is a clone of another URL, which is left as it is.",
    Reason.IN_SYNC: "The pod is what the spec asks for.",
    Reason.POD_DRIFTED: "Somebody changed the pod.",
    Reason.SPEC_CHANGED: "The spec changed in a way that only a new pod can follow.",
    Reason.IMAGE_NOT_DUE: "The image was made less than spec.due.imageMaxAge ago; the message has the day.",
    Reason.IMAGE_DUE: "The image was made, or has run, for longer than spec.due.imageMaxAge.",
    Reason.KEY_NOT_DUE: "The Secret's data was changed less than spec.due.keyMaxAge ago; the message has the day.",
    Reason.KEY_DUE: "The Secret's data was changed last longer ago than spec.due.keyMaxAge.",
    Reason.CERTIFICATE_NOT_RENEWED: "The certificate of the namespace's gateway ends within 20 days.",
    Reason.CERTIFICATE_EXPIRED: "The certificate of the namespace's gateway has ended: nothing is reached by it.",
    Reason.BACKUP_NOT_DUE: "A backup was verified less than spec.due.backupMaxAge ago; the message has the days.",
    Reason.BACKUP_DUE: "No backup was verified for spec.due.backupMaxAge; the message says why, where that is known.",
    Reason.BACKUPS_GONE: "The repository with the backups is not where it was; the message names the"
    " ClaudeSandboxBackup that says so, and what to do.",
    Reason.NO_BACKUP_YET: "No backup of the sandbox was verified yet, and it is younger than spec.due.backupMaxAge.",
    Reason.AGE_NOT_KNOWN: "Nothing tells how old it is; the message says what is known.",
    Reason.OUT_OF_MEMORY: "Processes were killed since more memory was needed than spec.resources.memory.",
    Reason.NO_ROOM_LEFT: "The workspace, the home or /tmp is full, or the pod was evicted for what it wrote.",
    Reason.PROCESS_LIMIT_REACHED: "A process could not be started, since there were as many as there may be.",
    Reason.CPU_THROTTLED: "For most of the time in which there was something to do, it was held back by"
    " spec.resources.cpu.",
    Reason.OBSERVATION_FAILED: "What is needed to judge could not be read.",
    Reason.NO_WORKLOAD: "There is no pod.",
}
"""What each reason says to a user."""
