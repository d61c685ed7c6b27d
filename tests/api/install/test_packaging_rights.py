"""The operator's account may do what it needs and nothing else, as the API server's own authorizer answers."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from access import ACCOUNT, Right, may, rights

from claude_sandbox.install.kubectl import Kubectl
from claude_sandbox.install.manifests import NAMESPACE, PROBES, Installation, Manifest, render
from claude_sandbox.install.manifests import NODES as AGENTS_NAMESPACE
from claude_sandbox.kubernetes_api.credentials import Credentials, from_kubeconfig
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.programs import toolchain

pytestmark = pytest.mark.controlplane

WATCHED, OTHER = "packaging-watched", "packaging-other"


def of(rules: dict[str, str], *names: str) -> set[Right]:
    return {Right(verb, resource, names) for resource, verbs in rules.items() for verb in verbs.split()}


WORK = of(
    {
        "claudesandbox.dev/claudesandboxes": "get list watch delete",
        "claudesandbox.dev/claudesandboxes/status": "patch",
        "claudesandbox.dev/claudesandboxes/finalizers": "update",
        "claudesandbox.dev/claudesandboxbackups": "get list watch create delete",
        "claudesandbox.dev/claudesandboxbackups/status": "patch",
        "/pods": "get list watch create patch delete",
        "/services": "get list watch create patch delete",
        "/serviceaccounts": "get list watch create patch delete",
        "networking.k8s.io/networkpolicies": "get list watch create patch delete",
        "/persistentvolumeclaims": "get list watch create patch",
        "/configmaps": "list watch",
        "/resourcequotas": "list watch",
        "discovery.k8s.io/endpointslices": "list watch",
        "/limitranges": "list watch",
        "authorization.k8s.io/localsubjectaccessreviews": "create",
        "events.k8s.io/events": "create patch",
        "apps/deployments": "get list watch create patch delete",
        "policy/poddisruptionbudgets": "get list watch create patch delete",
        "rbac.authorization.k8s.io/roles": "get list watch create patch delete",
        "rbac.authorization.k8s.io/rolebindings": "get list watch create patch delete",
        "claudesandbox.dev/claudesandboxusages": "get list watch create update",
    }
) | of({"/secrets": "get list watch create patch delete"}, "claude-sandbox-gateway-tls")
SECRETS = of({"/secrets": "get list watch"})
NODES = of({"/nodes": "get", "node.k8s.io/runtimeclasses": "get", "storage.k8s.io/storageclasses": "get"}) | of(
    {"claudesandbox.dev/claudeimagepolicies": "list watch"}
)
CLUSTER = NODES | of({"/namespaces": "get list watch"})
OWN_NAMESPACE = of({"/namespaces": "get"})
HOSTS = of(
    {
        "claudesandbox.dev/dockerhosts": "get list watch",
        "claudesandbox.dev/dockerhosts/status": "patch",
        "claudesandbox.dev/claudesandboxes": "patch",
        "claudesandbox.dev/claudesandboxsessions": "get list delete",
        "claudesandbox.dev/claudesandboxsessions/status": "patch",
    }
) | of({"/namespaces": "get"}, "kube-system")
HOST_SECRETS = of({"/secrets": "get"})
RIGHTS = of(
    {
        f"rbac.authorization.k8s.io/{plural}": "list watch"
        for plural in ("roles", "clusterroles", "rolebindings", "clusterrolebindings")
    }
)
AGENTS = of({"/pods": "list watch"}) | of(
    {"/secrets": "get create patch"}, "claude-sandbox-node-agent-authority", "claude-sandbox-node-agent-tls"
)
REPORTS = of(
    {
        "openreports.io/reports": "list watch create patch",
        "wgpolicyk8s.io/policyreports": "list watch create patch",
    }
)
PLUGINS = of(
    {
        "cilium.io/ciliumnetworkpolicies": "list watch",
        "cilium.io/ciliumclusterwidenetworkpolicies": "list watch",
        **{
            f"projectcalico.org/{tier}{plural}": "list watch"
            for tier in ("", "tier.")
            for plural in ("networkpolicies", "globalnetworkpolicies")
        },
        "projectcalico.org/tiers": "get",
        "crd.projectcalico.org/networkpolicies": "list watch",
        "crd.projectcalico.org/globalnetworkpolicies": "list watch",
        "crd.antrea.io/networkpolicies": "list watch",
        "crd.antrea.io/clusternetworkpolicies": "list watch",
        **{
            f"policy.networking.k8s.io/{plural}": "list watch"
            for plural in ("adminnetworkpolicies", "baselineadminnetworkpolicies", "clusternetworkpolicies")
        },
    }
)
SNAPSHOTS = of({"snapshot.storage.k8s.io/volumesnapshots": "get create delete"})
SNAPSHOT_CLASSES = of({"snapshot.storage.k8s.io/volumesnapshotclasses": "list", "storage.k8s.io/storageclasses": "get"})
CONTROLS = of({"/pods": "get list create delete"})
"""In the namespace of the pods that are the control of probes, however little it may elsewhere."""
LEASE = of({"coordination.k8s.io/leases": "get update"}, "claude-sandbox-operator") | of(
    {"coordination.k8s.io/leases": "create", "/configmaps": "create"}
)


@dataclass(frozen=True)
class Variant:
    """A way to install the operator, and what it may do: everywhere, where it watches, in its own namespace, and in
    that of agents on the nodes."""

    installation: Installation
    everywhere: set[Right]
    watched: set[Right]
    own: set[Right] = field(default_factory=set)
    nodes: set[Right] = field(default_factory=set)


VARIANTS = {
    "cluster": Variant(Installation(), WORK | SECRETS | CLUSTER | RIGHTS, set()),
    "cluster without Secrets": Variant(Installation(secrets=False), WORK | CLUSTER | RIGHTS, set()),
    "namespaced": Variant(Installation(namespaces=(WATCHED,)), NODES | RIGHTS, WORK | OWN_NAMESPACE | SECRETS),
    "namespaced without Secrets": Variant(
        Installation(namespaces=(WATCHED,), secrets=False), NODES | RIGHTS, WORK | OWN_NAMESPACE
    ),
    "with Docker hosts": Variant(
        Installation(secrets=False, docker=True), WORK | CLUSTER | RIGHTS | HOSTS, set(), HOST_SECRETS
    ),
    "with reports as objects": Variant(
        Installation(secrets=False, policy_reports="Auto"), WORK | CLUSTER | RIGHTS | REPORTS, set()
    ),
    "namespaced with reports as objects": Variant(
        Installation(namespaces=(WATCHED,), secrets=False, policy_reports="Auto"),
        NODES | RIGHTS,
        WORK | OWN_NAMESPACE | REPORTS,
    ),
    "namespaced with policies of network plugins": Variant(
        Installation(namespaces=(WATCHED,), secrets=False, plugin_policies=True),
        NODES | RIGHTS | PLUGINS,
        WORK | OWN_NAMESPACE,
    ),
    "with snapshots of volumes": Variant(
        Installation(secrets=False, volume_snapshots=True),
        WORK | CLUSTER | RIGHTS | SNAPSHOTS | SNAPSHOT_CLASSES,
        set(),
    ),
    "namespaced with snapshots of volumes": Variant(
        Installation(namespaces=(WATCHED,), secrets=False, volume_snapshots=True),
        NODES | RIGHTS | SNAPSHOT_CLASSES,
        WORK | OWN_NAMESPACE | SNAPSHOTS,
    ),
    "namespaced with agents on the nodes": Variant(
        Installation(namespaces=(WATCHED,), secrets=False, node_agent=True),
        NODES | RIGHTS,
        WORK | OWN_NAMESPACE,
        nodes=AGENTS,
    ),
}


@pytest.fixture(scope="module")
def kubectl(control_plane: Cluster) -> Kubectl:
    kubectl = Kubectl(toolchain.kubectl(print), str(control_plane.kubeconfig))
    spaces: list[Manifest] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in (WATCHED, OTHER)
    ]
    kubectl.apply(spaces)
    return kubectl


@pytest.fixture(scope="module")
def credentials(control_plane: Cluster) -> Credentials:
    return from_kubeconfig(str(control_plane.kubeconfig))


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request: pytest.FixtureRequest, kubectl: Kubectl) -> Iterator[Variant]:
    """The operator, installed so."""
    wanted = VARIANTS[request.param]
    manifests = render(wanted.installation)
    kubectl.apply(manifests, force=True)  # other tests may have brought the CRD
    yield wanted
    # The CRD and the namespace are for the next variant and for other tests.
    kubectl.delete(m for m in manifests if m["kind"] not in ("CustomResourceDefinition", "Namespace"))


@pytest.mark.parametrize("namespace", [WATCHED, OTHER, NAMESPACE, AGENTS_NAMESPACE, PROBES, "kube-system"])
def test_the_account_may_do_exactly_what_is_listed(variant: Variant, credentials: Credentials, namespace: str) -> None:
    expected = set(variant.everywhere)
    if namespace == WATCHED:
        expected |= variant.watched
    if namespace == NAMESPACE:
        expected |= LEASE | variant.own
    if namespace == AGENTS_NAMESPACE:
        expected |= variant.nodes
    if namespace == PROBES:
        expected |= CONTROLS
    assert rights(credentials, ACCOUNT, namespace) == expected


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("create", "/pods/exec"),
        ("create", "/pods/attach"),
        ("patch", "/pods/ephemeralcontainers"),
        ("get", "/pods/log"),
        ("create", "/serviceaccounts/token"),
        ("impersonate", "/serviceaccounts"),
        ("get", "/configmaps"),
        ("create", "/secrets"),
        ("patch", "/secrets"),
        ("delete", "/persistentvolumeclaims"),
        ("create", "claudesandbox.dev/claudesandboxes"),
        ("deletecollection", "claudesandbox.dev/claudesandboxes"),
        ("create", "claudesandbox.dev/dockerhosts"),
        ("patch", "claudesandbox.dev/dockerhosts"),
        ("bind", "rbac.authorization.k8s.io/roles"),
        ("bind", "rbac.authorization.k8s.io/clusterroles"),
        ("escalate", "rbac.authorization.k8s.io/roles"),
        ("create", "rbac.authorization.k8s.io/clusterrolebindings"),
        ("create", "rbac.authorization.k8s.io/clusterroles"),
        ("update", "rbac.authorization.k8s.io/rolebindings"),
        ("delete", "claudesandbox.dev/claudesandboxusages"),
        ("create", "claudesandbox.dev/claudesandboxsessions"),
        ("patch", "claudesandbox.dev/claudesandboxbackups"),
        ("get", "/services/proxy"),
        ("*", "/pods"),
        ("*", "*/*"),
    ],
)
def test_what_an_intruder_would_want_is_refused(
    variant: Variant, credentials: Credentials, verb: str, resource: str
) -> None:
    # A full SubjectAccessReview: unlike the list of rights it asks every authorizer that the server has.
    assert not any(may(credentials, ACCOUNT, verb, resource, namespace) for namespace in (WATCHED, NAMESPACE, None))


def test_what_it_may_not_do_it_can_grant_nobody(variant: Variant, control_plane: Cluster) -> None:
    """It makes the Roles of gateways, and Kubernetes lets it put into them only what it may do itself."""
    command = (str(toolchain.kubectl(print)), f"--kubeconfig={control_plane.kubeconfig}", f"--as={ACCOUNT}", "create")
    rest = ("-n", WATCHED, "--dry-run=server", "-o", "name")

    def made(*what: str) -> bool:
        return subprocess.run([*command, *what, *rest], capture_output=True, check=False).returncode == 0

    mine = ("rolebinding", "gateway-1", "--clusterrole=claude-sandbox-operator", "--user=somebody")
    assert made("role", "gateway-1", "--verb=list", "--resource=claudesandboxes.claudesandbox.dev")
    assert made(*mine)
    assert not made("role", "gateway-1", "--verb=create", "--resource=pods/exec")
    assert not made("rolebinding", "gateway-1", "--clusterrole=cluster-admin", "--user=somebody")


def test_of_secrets_it_makes_the_gateways_certificate_and_no_other(variant: Variant, control_plane: Cluster) -> None:
    """By server-side apply, whose name is known before anything is made: `kubectl create` is refused even that one."""
    command = (str(toolchain.kubectl(print)), f"--kubeconfig={control_plane.kubeconfig}", f"--as={ACCOUNT}", "apply")
    rest = ("--server-side", "--dry-run=server", "-n", WATCHED, "-f", "-")

    def applied(name: str) -> bool:
        secret = json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}})
        done = subprocess.run([*command, *rest], input=secret, text=True, capture_output=True, check=False)
        return done.returncode == 0

    def listed(name: str) -> bool:
        scope = ("-n", WATCHED) if variant.installation.namespaces else ("-A",)
        selector = f"--field-selector=metadata.name={name}"
        done = subprocess.run(
            [*command[:-1], "get", "secrets", *scope, selector], text=True, capture_output=True, check=False
        )
        return done.returncode == 0

    assert applied("claude-sandbox-gateway-tls")
    assert not applied("another")
    assert listed("claude-sandbox-gateway-tls")
    assert listed("another") == variant.installation.secrets


def test_sandboxes_are_held_and_let_go_only_where_there_are_docker_hosts(
    variant: Variant, credentials: Credentials
) -> None:
    allowed = may(credentials, ACCOUNT, "patch", "claudesandbox.dev/claudesandboxes", WATCHED)
    assert allowed == variant.installation.docker


def test_secrets_are_out_of_reach_unless_the_installation_says_so(variant: Variant, credentials: Credentials) -> None:
    allowed = {verb for verb in ("get", "list", "watch") if may(credentials, ACCOUNT, verb, "/secrets", WATCHED)}
    assert allowed == ({"get", "list", "watch"} if variant.installation.secrets else set())
    elsewhere = variant.installation.secrets and not variant.installation.namespaces
    assert may(credentials, ACCOUNT, "get", "/secrets", OTHER) == elsewhere


def test_credentials_of_hosts_are_read_by_name_and_in_its_own_namespace_only(
    variant: Variant, credentials: Credentials
) -> None:
    installation = variant.installation
    allowed = {verb for verb in ("get", "list", "watch") if may(credentials, ACCOUNT, verb, "/secrets", NAMESPACE)}
    if installation.secrets and not installation.namespaces:
        assert allowed == {"get", "list", "watch"}
        return
    assert allowed == ({"get"} if installation.docker else set())
    assert not may(credentials, ACCOUNT, "get", "/secrets", "kube-system")


def test_only_its_own_lease_may_be_taken(variant: Variant, credentials: Credentials) -> None:
    def update(name: str, namespace: str) -> bool:
        return may(credentials, ACCOUNT, "update", "coordination.k8s.io/leases", namespace, name)

    assert update("claude-sandbox-operator", NAMESPACE)
    assert not update("kube-scheduler", NAMESPACE)
    assert not update("claude-sandbox-operator", "kube-system")


def test_an_operator_for_one_namespace_does_not_see_others(variant: Variant, credentials: Credentials) -> None:
    def see(verb: str, name: str) -> bool:
        # What a request for a namespace has for its namespace is that namespace.
        return may(credentials, ACCOUNT, verb, "/namespaces", name if verb == "get" else None, name)

    everywhere = not variant.installation.namespaces
    assert see("list" if everywhere else "get", WATCHED)
    assert see("list", OTHER) == everywhere
    assert see("get", OTHER) == everywhere
