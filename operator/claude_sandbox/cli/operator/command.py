"""`claude-sandbox run`: the operator itself."""

import asyncio
import resource
import sys
from pathlib import Path
from typing import Any

import click

from claude_sandbox.cli.exits import Exit
from claude_sandbox.cli.gateways import gateway_settings_file
from claude_sandbox.cli.local.images import by_digest
from claude_sandbox.cli.operator import values
from claude_sandbox.cli.operator.settings import settings_of
from claude_sandbox.cli.values import networks
from claude_sandbox.controller.machinery import logs
from claude_sandbox.controller.main import OperatorError, run_operator
from claude_sandbox.controller.policy_reports.operator import KINDS


@click.command(context_settings={"auto_envvar_prefix": "CLAUDE_SANDBOX"})
@click.option(
    "--kubeconfig", metavar="FILE", help="Default: the pod's own account, else $KUBECONFIG, else ~/.kube/config."
)
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    metavar="NAME",
    help="Look after this namespace only; may be repeated. Default: the whole cluster.",
)
@click.option(
    "--sandbox-image",
    required=True,
    callback=values.pinned,
    metavar="IMAGE",
    help="What sandboxes without spec.image run; pin it by digest: REPOSITORY@sha256:….",
)
@click.option(
    "--sandbox-pull-policy",
    type=click.Choice(["IfNotPresent", "Always", "Never"]),
    default="IfNotPresent",
    show_default=True,
    help="How that image is pulled.",
)
@click.option(
    "--allowed-registry",
    "allowed_registries",
    multiple=True,
    metavar="PREFIX",
    help="Where images may come from, for control IMG-02; may be repeated. Default: anywhere.",
)
@click.option(
    "--image-without-volumes",
    "plain_images",
    multiple=True,
    callback=by_digest,
    metavar="REPOSITORY@sha256:…",
    help="An image whose configuration declares no VOLUME; may be repeated. What an image declares a pod's runtime "
    "makes writable, and no API object tells of it: FS-08 is Unknown for other images. Of --sandbox-image and "
    "--claude-code it is taken for certain.",
)
@click.option(
    "--open-private-network",
    "opened",
    multiple=True,
    callback=networks,
    metavar="CIDR",
    help="A private network that sandboxes may name in spec.network.egress.allowedCIDRs; may be repeated. "
    "Default: none, so that nobody reaches into the cluster's network through a sandbox.",
)
@click.option(
    "--backup-network",
    "backup_networks",
    multiple=True,
    callback=networks,
    metavar="CIDR",
    help="A network that is not public, and to whose servers backups of sandboxes may be sent by S3 or SFTP; may be "
    "repeated. Default: none.",
)
@click.option(
    "--runtime-class",
    "runtime_classes",
    multiple=True,
    metavar="NAME",
    help="A RuntimeClass that sandboxes may ask for in spec.security.runtimeClassName; may be repeated. Default: none, "
    "since a RuntimeClass may be made for what is trusted, or keep dear nodes for itself.",
)
@click.option(
    "--strict-seccomp-profile",
    "strict_profile",
    callback=values.seccomp_profile,
    metavar="PATH",
    help="Where the cluster's nodes have the Strict filter of system calls (manifests/seccomp/strict.json), below the "
    "kubelet's directory of seccomp profiles, for example claude-sandbox/strict.json: sandboxes may then ask for "
    "spec.security.seccompProfile.type Strict. Default: nowhere, since nothing that the operator may make brings a "
    "file to a node.",
)
@click.option(
    "--apparmor-profile",
    "app_armor_profiles",
    multiple=True,
    callback=values.app_armor,
    metavar="NAME",
    help="A profile of AppArmor that sandboxes may ask for in spec.security.appArmorProfile.localhostProfile, and that "
    "the cluster's nodes and the Docker hosts have loaded; may be repeated. Default: none, since nothing tells whether "
    "a profile keeps anybody from anything.",
)
@click.option(
    "--claude-code",
    "releases",
    multiple=True,
    callback=values.releases,
    metavar="RELEASE=IMAGE",
    help="An image as --sandbox-image is, with another release of Claude Code, for which sandboxes may ask by "
    "spec.claudeCode.version; may be repeated. Default: none; who asks for nothing has --sandbox-image.",
)
@click.option(
    "--supplemental-groups-policy",
    "groups",
    type=click.Choice(["Strict", "Merge"]),
    default="Strict",
    show_default=True,
    help="With Strict, pods are in the groups that they name and no others, and nodes whose runtime can't do that "
    "(containerd before 2.0, CRI-O before 1.31) refuse them. With Merge they get the groups of /etc/group in their "
    "image as well, for control PRIV-05 to judge where the node tells them.",
)
@click.option(
    "--without-secrets",
    is_flag=True,
    help="Never look at Secrets, not even at their metadata. Namespaces then name in their annotation "
    "claudesandbox.dev/api-key-secrets those that sandboxes may use, and a new key arrives at the kubelet's pace.",
)
@click.option(
    "--leader-election/--no-leader-election",
    default=True,
    show_default=True,
    help="Of several replicas only the holder of the Lease acts.",
)
@click.option(
    "--renew-lease",
    is_flag=True,
    help="With --no-leader-election: renew the Lease all the same, every 10 s, so that reports can tell that the "
    "operator runs.",
)
@click.option(
    "--lease-namespace",
    metavar="NAME",
    help="Where the Lease and the credentials of Docker hosts are. Default: the operator's own namespace.",
)
@click.option(
    "--docker/--no-docker",
    default=False,
    show_default=True,
    help="Look after DockerHosts too. Who operates on Kubernetes only need not grant the rights that this takes.",
)
@click.option(
    "--sessions-at",
    callback=values.place,
    metavar="SERVICE|URL",
    help="Where users find --sessions-bind, to work in sandboxes on Docker hosts without access to an engine "
    "(claude-sandbox shell, cp, logs, diff): NAMESPACE/NAME:PORT of a Service, to which the API server's proxy leads "
    "them, or https://HOST:PORT. Default: nowhere, and that takes an engine. See docs/working.md.",
)
@click.option(
    "--sessions-certificate",
    metavar="FILE",
    help="Of the authority that signed the API server's, with --sessions-at https://…. Default: one is made, which the "
    "proxy takes.",
)
@click.option("--sessions-key", metavar="FILE", help="The certificate's key.")
@click.option(
    "--sessions-bind",
    default="0.0.0.0:8443",
    show_default=True,
    callback=values.address,
    metavar="HOST:PORT",
    help="Where these sessions are served; nothing is bound without --sessions-at.",
)
@click.option(
    "--relay-image",
    callback=lambda _ctx, _param, value: value or None,
    metavar="IMAGE",
    help="What brings keys to sandboxes on Docker hosts and publishes their declared ports: the operator's own image, "
    "pinned by digest, where the hosts can get it. Default: none, and no sandbox starts on a Docker host.",
)
@click.option(
    "--gateway-image",
    callback=lambda _ctx, _param, value: value or None,
    metavar="IMAGE",
    help="What the gateways of sandboxes on Kubernetes run: the operator's own image, pinned by digest. Default: none, "
    "and no sandbox there starts but with spec.credentials.delivery Mounted.",
)
@click.option(
    "--gateway-settings",
    callback=gateway_settings_file,
    metavar="FILE",
    help="What holds for the gateways of all sandboxes, a JSON object: provider (another address of "
    "the Claude API, such as a company's own gateway), egress (names that are always denied, private networks that "
    "may be reached, an upstream proxy), limits. See docs/gateway.md.",
)
@click.option(
    "--workers", type=click.IntRange(1, 256), default=24, show_default=True, help="Sandboxes worked on at a time."
)
@click.option(
    "--resync",
    type=click.FloatRange(min=1),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="How often everything is looked at again although no event asked for it.",
)
@click.option(
    "--policy-reports",
    type=click.Choice(list(KINDS), case_sensitive=False),
    help="Write a report of each sandbox as an object that viewers of policies show: a Report of "
    "openreports.io/v1alpha1 or a PolicyReport of wgpolicyk8s.io/v1alpha2; with Auto the first that the cluster "
    "serves. Default: none. It takes rights on that kind (install --policy-reports). See docs/report.md.",
)
@click.option(
    "--plugin-policies/--no-plugin-policies",
    default=False,
    show_default=True,
    help="Look at policies that network plugins have beside NetworkPolicies (Cilium, Calico, Antrea, the Network "
    "Policy API), where the cluster serves them: controls that one could change are Unknown. It takes the right to "
    "list them (install --plugin-policies). See docs/check.md.",
)
@click.option(
    "--node-agent/--no-node-agent",
    default=False,
    show_default=True,
    help="Ask the agents on the nodes (install --node-agent) what the nodes' kernels say of sandboxes' processes. "
    "Where that is something else than the pods' objects say, the control fails.",
)
@click.option(
    "--node-agent-interval",
    type=click.FloatRange(min=1, max=200),
    default=100.0,
    show_default=True,
    metavar="SECONDS",
    help="How often they are asked about each sandbox, with --node-agent.",
)
@click.option(
    "--image-check-interval",
    type=click.FloatRange(min=1),
    default=900.0,
    show_default=True,
    metavar="SECONDS",
    help="How often a registry is asked what a tag stands for that sandboxes follow (spec.updatePolicy).",
)
@click.option(
    "--probe-interval",
    type=click.FloatRange(min=0),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="How often it is tried what can be reached from each sandbox on a Docker host, beside each change of its "
    "network. 0: never, and IsolationVerified is never True.",
)
@click.option(
    "--pod-probe-interval",
    type=click.FloatRange(min=0),
    default=3600.0,
    show_default=True,
    metavar="SECONDS",
    help="The same of each sandbox on Kubernetes, where each try is a pod of some seconds (of --gateway-image). 0: "
    "never, and IsolationVerified is never True.",
)
@click.option(
    "--probe-target",
    "probe_targets",
    multiple=True,
    callback=values.probe_targets,
    metavar="ADDRESS:PORT[/HOW]",
    help="What no sandbox may reach, beside what is tried anyway, and the operator can: an IP address and a TCP "
    "port, for example 10.0.0.5:443 or [fd00::5]:443 (so too DNS over TLS or HTTPS), or 10.0.0.5:53/dns-udp, "
    "10.0.0.5:53/dns-tcp, 10.0.0.5:443/quic, 10.0.0.5/icmp. Can be repeated.",
)
@click.option(
    "--probe-control-namespace",
    metavar="NAME",
    help="A namespace for pods of the operator's, from which every connection is allowed and in which nothing else is: "
    "from there it is seen whether what a sandbox could not reach answers at all. Default: only what answers the "
    "operator itself is proven to be denied. See manifests/operator/probes.yaml.",
)
@click.option(
    "--trail-directory",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the audit trail here: what happened to sandboxes, so that a change of it afterwards is found. Of one "
    "directory there is one writer at a time. Default: none is written. See docs/audit.md.",
)
@click.option(
    "--trail-key",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="What signs the trail: a private key for Ed25519 as PEM, which is made where there is none. Default: "
    "signing-key.pem in that directory; elsewhere is better.",
)
@click.option(
    "--trail-export",
    "trail_exports",
    multiple=True,
    callback=values.exports,
    metavar="TARGET",
    help="Copy the trail's lines to stdout, syslog+tcp://HOST:PORT, syslog+tls://HOST:PORT or syslog+udp://HOST:PORT; "
    "may be repeated. By a copy a rollback of the trail is found.",
)
@click.option(
    "--trail-keep-days",
    type=click.IntRange(min=0),
    default=400,
    show_default=True,
    help="For how many days what is in the trail is kept. 0: for ever.",
)
@click.option(
    "--bind",
    default="0.0.0.0:8080",
    show_default=True,
    callback=values.address,
    metavar="HOST:PORT",
    help="Where /healthz, /readyz and /metrics are served.",
)
@click.option(
    "--revocation-hook",
    metavar="URL",
    help="What is told of keys that are declared compromised, so that it revokes them at the provider: https://… "
    "See docs/incidents.md. Default: nothing is.",
)
@click.option(
    "--revocation-token",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="What it is sent as a bearer token.",
)
@click.option(
    "--revocation-ca",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Authorities that may have signed its certificate. Default: the public ones.",
)
@click.option(
    "--checkpoint-recipient",
    metavar="PUBLIC-KEY",
    callback=values.recipient,
    help="Keep the memory of quarantined sandboxes on Docker, where their engine can, encrypted to this public key of "
    "age (age1…). See docs/incidents.md. Default: it is not kept.",
)
@click.option("--log-format", type=click.Choice(["json", "text"]), default="text" if sys.stderr.isatty() else "json")
@click.option(
    "--log-level", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]), default="INFO", show_default=True
)
def run(log_format: logs.Format, log_level: str, **given: Any) -> None:
    """Run the operator until it is told to stop (SIGTERM or SIGINT).

    In a cluster the manifests start it. On your own machine, against the cluster of a kubeconfig:

    \b
      claude-sandbox run --kubeconfig FILE --sandbox-image REPOSITORY@sha256:…

    Every option can be given as an environment variable, for example CLAUDE_SANDBOX_LOG_LEVEL=DEBUG.
    """
    settings = settings_of(**given)
    # A dump of this process's memory would put the keys that it delivers on the disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logs.configure(log_format, log_level)
    try:
        asyncio.run(run_operator(settings))
    except OperatorError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(Exit.FAILED)
