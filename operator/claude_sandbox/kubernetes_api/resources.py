"""The kinds of objects that are read or written, and their places in the API server's URL space."""

from dataclasses import dataclass
from functools import cached_property
from urllib.parse import quote

from claude_sandbox.api import meta


@dataclass(frozen=True)
class Resource:
    """One kind of object of the Kubernetes API. An empty group is the core group."""

    group: str
    version: str
    plural: str
    namespaced: bool
    kind: str

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @cached_property
    def api_version(self) -> str:
        """As in an object's `apiVersion`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @cached_property
    def _prefix(self) -> str:
        return f"/apis/{self.group}/{self.version}/" if self.group else f"/api/{self.version}/"

    def collection(self, namespace: str | None) -> str:
        """The URL path of all objects of a namespace, or of the whole cluster."""
        if namespace is None:
            return self._prefix + self.plural
        return f"{self._prefix}namespaces/{segment(namespace)}/{self.plural}"

    def item(self, name: str, namespace: str | None, subresource: str | None = None) -> str:
        """The URL path of one object. Raises `ValueError` where the namespace is missing or too much."""
        if self.namespaced != (namespace is not None):
            raise ValueError(f"{self} {name}: {'a' if self.namespaced else 'no'} namespace is needed")
        path = f"{self.collection(namespace)}/{segment(name)}"
        return f"{path}/{subresource}" if subresource else path


def segment(name: str) -> str:
    """A name as one segment of a URL path: never empty, never a step to another place."""
    if name in ("", ".", ".."):
        raise ValueError(f"{name!r} is not the name of an object")
    return quote(name, safe="")


PODS = Resource("", "v1", "pods", True, "Pod")
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", True, "ServiceAccount")
SERVICES = Resource("", "v1", "services", True, "Service")
ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "endpointslices", True, "EndpointSlice")
PERSISTENT_VOLUME_CLAIMS = Resource("", "v1", "persistentvolumeclaims", True, "PersistentVolumeClaim")
CONFIG_MAPS = Resource("", "v1", "configmaps", True, "ConfigMap")
SECRETS = Resource("", "v1", "secrets", True, "Secret")
RESOURCE_QUOTAS = Resource("", "v1", "resourcequotas", True, "ResourceQuota")
LIMIT_RANGES = Resource("", "v1", "limitranges", True, "LimitRange")
NAMESPACES = Resource("", "v1", "namespaces", False, "Namespace")
NODES = Resource("", "v1", "nodes", False, "Node")
DEPLOYMENTS = Resource("apps", "v1", "deployments", True, "Deployment")
DISRUPTION_BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", True, "PodDisruptionBudget")
NETWORK_POLICIES = Resource("networking.k8s.io", "v1", "networkpolicies", True, "NetworkPolicy")
_SNAPSHOTS = "snapshot.storage.k8s.io"
VOLUME_SNAPSHOTS = Resource(_SNAPSHOTS, "v1", "volumesnapshots", True, "VolumeSnapshot")
VOLUME_SNAPSHOT_CLASSES = Resource(_SNAPSHOTS, "v1", "volumesnapshotclasses", False, "VolumeSnapshotClass")
RUNTIME_CLASSES = Resource("node.k8s.io", "v1", "runtimeclasses", False, "RuntimeClass")
STORAGE_CLASSES = Resource("storage.k8s.io", "v1", "storageclasses", False, "StorageClass")
_RBAC = "rbac.authorization.k8s.io"
ROLES = Resource(_RBAC, "v1", "roles", True, "Role")
CLUSTER_ROLES = Resource(_RBAC, "v1", "clusterroles", False, "ClusterRole")
ROLE_BINDINGS = Resource(_RBAC, "v1", "rolebindings", True, "RoleBinding")
CLUSTER_ROLE_BINDINGS = Resource(_RBAC, "v1", "clusterrolebindings", False, "ClusterRoleBinding")
EVENTS = Resource("events.k8s.io", "v1", "events", True, "Event")
LEASES = Resource("coordination.k8s.io", "v1", "leases", True, "Lease")
LOCAL_ACCESS_REVIEWS = Resource(
    "authorization.k8s.io", "v1", "localsubjectaccessreviews", True, "LocalSubjectAccessReview"
)
ACCESS_REVIEWS = Resource("authorization.k8s.io", "v1", "subjectaccessreviews", False, "SubjectAccessReview")
SELF_ACCESS_REVIEWS = Resource(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", False, "SelfSubjectAccessReview"
)
SANDBOXES = Resource(meta.GROUP, meta.VERSION, meta.PLURAL, True, meta.KIND)
USAGES = Resource(meta.GROUP, meta.VERSION, meta.USAGE_PLURAL, True, meta.USAGE_KIND)
SESSIONS = Resource(meta.GROUP, meta.VERSION, meta.SESSION_PLURAL, True, meta.SESSION_KIND)
BACKUPS = Resource(meta.GROUP, meta.VERSION, meta.BACKUP_PLURAL, True, meta.BACKUP_KIND)
IMAGE_POLICIES = Resource(meta.GROUP, meta.VERSION, meta.IMAGE_POLICY_PLURAL, False, meta.IMAGE_POLICY_KIND)
DOCKER_HOSTS = Resource(meta.GROUP, meta.VERSION, meta.HOST_PLURAL, False, meta.HOST_KIND)
OPEN_REPORTS = Resource("openreports.io", "v1alpha1", "reports", True, "Report")
POLICY_REPORTS = Resource("wgpolicyk8s.io", "v1alpha2", "policyreports", True, "PolicyReport")
