"""A cluster made ready for operators: CRDs, a default StorageClass, a garbage collector that knows of the CRDs."""

import asyncio
from contextlib import aclosing

import repository
import yaml
from kubelet import provide_storage
from report_definitions import serve

from claude_sandbox.kubernetes_api import resources as r
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.credentials import from_kubeconfig
from claude_sandbox.kubernetes_api.resources import POLICY_REPORTS
from claude_sandbox.localcluster import cluster
from claude_sandbox.localcluster.cluster import Cluster

DEFINITIONS = [
    repository.CRDS / f"claudesandbox.dev_{name}.yaml"
    for name in ("claudesandboxes", "claudesandboxbackups", "claudeimagepolicies")
]
CRDS = r.Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", False, "CustomResourceDefinition")


def prepare(made: Cluster) -> None:
    """Have all of that."""
    asyncio.run(_define(made))
    # The garbage collector looks for new kinds twice a minute only.
    cluster.restart(made, "kube-controller-manager")


async def _define(made: Cluster) -> None:
    async with Api(from_kubeconfig(str(made.kubeconfig))) as api:
        for definition in DEFINITIONS:
            applied = await api.apply(CRDS, yaml.safe_load(definition.read_text()))
            if _established(applied):
                continue
            async with aclosing(api.watch(CRDS, resource_version=applied["metadata"]["resourceVersion"])) as watch:
                async for event in watch:
                    if event["object"]["metadata"]["name"] == applied["metadata"]["name"] and _established(
                        event["object"]
                    ):
                        break
        # Which no operator writes to unless it is told to.
        await serve(api, POLICY_REPORTS)
        await provide_storage(api, 20)


def _established(definition: Obj) -> bool:
    conditions = (definition.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)
