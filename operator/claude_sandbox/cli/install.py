"""`claude-sandbox install`: the operator into a cluster, or its manifests onto standard output."""

import re
import sys
from typing import Any

import click
import yaml

from claude_sandbox.api.quantity import PATTERN
from claude_sandbox.cli.demo import tell
from claude_sandbox.cli.exits import Exit
from claude_sandbox.cli.gateways import gateway_settings_file
from claude_sandbox.install.applying import install as apply
from claude_sandbox.install.errors import SetupError
from claude_sandbox.install.kubectl import Kubectl
from claude_sandbox.install.manifests import POLICY_REPORTS, Installation, render
from claude_sandbox.localcluster.programs import toolchain


@click.command()
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    metavar="NAME",
    help="Look after this namespace only, without rights in others; may be repeated. [default: the whole cluster]",
)
@click.option("--without-secrets", is_flag=True, help="Without any permission on Secrets.")
@click.option("--docker", is_flag=True, help="Look after Docker hosts too.")
@click.option(
    "--node-agent",
    is_flag=True,
    help="With an agent on each node that reads what the node's kernel says of sandboxes' processes: a second witness.",
)
@click.option(
    "--policy-reports",
    type=click.Choice(list(POLICY_REPORTS), case_sensitive=False),
    help="With a report of each sandbox as an object for viewers of policies, where the cluster serves such a kind.",
)
@click.option(
    "--plugin-policies",
    is_flag=True,
    help="With the right to read policies that network plugins have beside NetworkPolicies: what they could change is "
    "Unknown then.",
)
@click.option(
    "--volume-snapshots",
    is_flag=True,
    help="With the right to make VolumeSnapshots, for backups that ask for one (volumeSnapshot). See docs/backup.md.",
)
@click.option(
    "--gateway-settings",
    callback=gateway_settings_file,
    metavar="FILE",
    help="What holds for the gateways of all sandboxes: see docs/gateway.md. It goes into a ConfigMap.",
)
@click.option("--trail", metavar="SIZE", help="Keep an audit trail on a volume of this size: 10Gi. See docs/audit.md.")
@click.option("--trail-storage-class", metavar="NAME", help="The volume's StorageClass. [default: the default one]")
@click.option("--operator-image", metavar="IMAGE", help="The operator's image.")
@click.option("--sandbox-image", metavar="IMAGE", help="What sandboxes without spec.image run: REPOSITORY@sha256:….")
@click.option("--kubeconfig", metavar="FILE", help="[default: as kubectl]")
@click.option("--context", metavar="NAME", help="[default: the current one]")
@click.option("--force", is_flag=True, help="Take over fields that others have changed in the operator's objects.")
@click.option("--dry-run", is_flag=True, help="Print the manifests, and apply nothing.")
def install(
    *,
    namespaces: tuple[str, ...],
    without_secrets: bool,
    docker: bool,
    node_agent: bool,
    policy_reports: str | None,
    plugin_policies: bool,
    volume_snapshots: bool,
    gateway_settings: dict[str, Any] | None,
    trail: str | None,
    trail_storage_class: str | None,
    operator_image: str | None,
    sandbox_image: str | None,
    kubeconfig: str | None,
    context: str | None,
    force: bool,
    dry_run: bool,
) -> None:
    """Install the operator, or change how it is installed.

    \b
    Examples:
      claude-sandbox install --operator-image REGISTRY/operator:TAG --sandbox-image REGISTRY/sandbox@sha256:…
      claude-sandbox install --namespace agents --without-secrets …     with the least rights
      claude-sandbox install --dry-run > operator.yaml                  to look at, or for a GitOps repository
      claude-sandbox install --dry-run | kubectl delete -f -            to remove it, and all sandboxes with it

    Rights that an earlier installation had and this one doesn't are taken back.
    """
    if trail is not None and re.fullmatch(PATTERN, trail) is None:
        raise click.UsageError("--trail takes a size, such as 10Gi")
    if trail_storage_class and not trail:
        raise click.UsageError("--trail-storage-class is for a trail: add --trail SIZE")
    wanted = Installation(
        namespaces=tuple(dict.fromkeys(namespaces)),
        secrets=not without_secrets,
        docker=docker,
        node_agent=node_agent,
        policy_reports=policy_reports,
        plugin_policies=plugin_policies,
        volume_snapshots=volume_snapshots,
        gateways=gateway_settings or None,
        trail=trail,
        trail_class=trail_storage_class,
        operator_image=operator_image,
        sandbox_image=sandbox_image,
    )
    if dry_run:
        click.echo(yaml.safe_dump_all(render(wanted), sort_keys=False), nl=False)
        return
    try:
        kubectl = Kubectl(toolchain.kubectl(_say), kubeconfig, context)
        _say(f"Installing the operator by the context {context or kubectl.run('config', 'current-context').strip()!r}.")
        apply(kubectl, wanted, _say, force=force)
    except SetupError as error:
        tell(error)
        sys.exit(Exit.FAILED)
    click.echo("The operator is ready. Samples: manifests/samples")


def _say(line: str) -> None:
    click.echo(line, err=True)
