"""`claude-sandbox check pod` and `check sandbox`: as they live in the cluster."""

import asyncio
from collections.abc import Sequence

from claude_sandbox.api import meta
from claude_sandbox.backends.kubernetes.evidence.single_pod import Survey, SurveyError, survey_pod, survey_sandbox
from claude_sandbox.cli.check.options import Options
from claude_sandbox.cli.check.reports import Report
from claude_sandbox.cli.unreadable import UnreadableError, remedy_of
from claude_sandbox.compliance.reports import pods as kubernetes
from claude_sandbox.kubernetes_api.client import Api
from claude_sandbox.kubernetes_api.credentials import CredentialsError, load
from claude_sandbox.kubernetes_api.errors import ApiError

_RIGHT = "get it, and to list what else is in its namespace"


async def of_pods(names: Sequence[str], options: Options, *, sandboxes: bool) -> list[Report]:
    """A report for each of the pods, or of the sandboxes, named NAMESPACE/NAME. Raises UnreadableError."""
    survey = survey_sandbox if sandboxes else survey_pod
    reports = []
    try:
        async with Api(await asyncio.to_thread(load, options.kubeconfig, options.context)) as api:
            for full_name in names:
                namespace, _, name = full_name.partition("/")
                try:
                    reports.append(_surveyed(await survey(api, namespace, name, options.standard)))
                except ApiError as error:
                    raise UnreadableError(
                        f"{full_name} could not be read: {error}.", remedy_of(error, _RIGHT, f"pods,{meta.PLURAL}")
                    ) from None
    except CredentialsError as error:
        raise UnreadableError(f"{error}.") from None
    except SurveyError as error:
        raise UnreadableError(f"{error}.") from None
    return reports


def _surveyed(survey: Survey) -> Report:
    declaring = survey.sandbox or survey.pod
    metadata = declaring["metadata"]
    return Report(
        target={
            "kind": "ClaudeSandbox" if survey.sandbox else "Pod",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
        findings=kubernetes.findings(survey.evidence, survey.controls),
        evaluated_at=survey.evidence.now,
        note=survey.note,
    )
