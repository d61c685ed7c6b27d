"""All that is in some files, judged: what would run, each in the order in which it is written."""

from collections.abc import Iterable
from dataclasses import dataclass

from claude_sandbox.manifests.compose.project import is_project, judge_project
from claude_sandbox.manifests.documents import Document, Problem, Text, documents
from claude_sandbox.manifests.image_policies import policies_of
from claude_sandbox.manifests.judged import Judged, Standard
from claude_sandbox.manifests.kubernetes import is_sandbox, objects, workloads
from claude_sandbox.manifests.pods import judge_workload
from claude_sandbox.manifests.sandboxes import judge_sandbox, refused_by_profile


@dataclass(frozen=True)
class Outcome:
    """What was judged, and what could not be."""

    judged: tuple[Judged, ...]
    problems: tuple[Problem, ...]


def judge(texts: Iterable[Text], standard: Standard) -> Outcome:
    """Judge what is in files, and say what could not be. What runs nothing is passed over."""
    read: list[Document] = []
    problems: list[Problem] = []
    for text in texts:
        documents_of, unreadable = documents(text)
        read += documents_of
        problems += unreadable
    among = objects(read)
    ready, without_pod = workloads(among.all)
    problems += without_pod
    judged = [judge_workload(one, among, standard) for one in ready]
    policies, not_understood = policies_of(among)
    problems += not_understood
    for sandbox in filter(is_sandbox, among.all):
        of_sandbox = judge_sandbox(sandbox, among, standard, policies)
        if isinstance(of_sandbox, Judged):
            judged.append(of_sandbox)
            problems += refused_by_profile(sandbox, standard.profile)
        else:
            problems += of_sandbox
    for document in read:
        if is_project(document.value):
            services, unresolved = judge_project(document, standard)
            judged += services
            problems += unresolved
    order = {file: number for number, file in enumerate(dict.fromkeys(one.file for one in read))}
    judged.sort(key=lambda one: (order[one.file], one.line))
    return Outcome(tuple(judged), tuple(problems))
