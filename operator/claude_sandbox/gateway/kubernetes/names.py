"""Names of the operator's that the gateway goes by. It may import nothing of the operator's; a test compares them."""

GROUP = "claudesandbox.dev"
VERSION = "v1alpha1"
KIND = "ClaudeSandbox"
PLURAL = "claudesandboxes"
USAGE_KIND = "ClaudeSandboxUsage"
USAGE_PLURAL = "claudesandboxusages"
LABEL_COMPONENT = f"{GROUP}/component"
REPORT = "report"
"""The component that a ClaudeSandboxUsage is in which gateways report, and no account is."""
SECRET_TYPE = f"{GROUP}/api-key"
LABEL_SECRET_OPT_IN = f"{GROUP}/api-key"
LABEL_SECRET_OPT_IN_VALUE = "true"
SERVICE_SECRET_TYPE = f"{GROUP}/service"
"""The type of a Secret with a credential for a service, and the label that makes it one."""
LABEL_SANDBOX = f"{GROUP}/sandbox"
GIT_SECRET_TYPE = f"{GROUP}/git"
"""The type of a Secret with a credential for git, and the label that makes it one."""


def report_name(uid: str) -> str:
    """The name of the ClaudeSandboxUsage with the reports of a sandbox."""
    return f"{uid}-report"


def child_name(sandbox: str) -> str:
    """The name of the sandbox's pod, and of its ServiceAccount."""
    return f"sandbox-{sandbox}"
