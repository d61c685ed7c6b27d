"""The security guide that the project began with, line by line: what became of each, and which tests see it.

The guide tells a person what to set up, watch and do by hand, for one container of `docker compose`. What it says is
in our words here; `same` where the product does it, `other` where it does it in another way, with the reason, and
`left` where it leaves it to a person, or does not do it.
"""

from dataclasses import dataclass
from enum import StrEnum


class Done(StrEnum):
    """What became of a line."""

    SAME = "as it says"
    OTHER = "otherwise"
    LEFT = "left to you"


@dataclass(frozen=True)
class Line:
    """A line of the guide. `command` shows it; `tests` have seen it: files below tests/, or `file::test`."""

    said: str
    done: Done
    how: str
    command: str = ""
    tests: tuple[str, ...] = ()


_CONFORMANCE = "conformance/test_conformance.py::test_"
_INSIDE = "e2e/test_inside_a_sandbox.py::test_"
_OPERATOR = "docker/sandboxes/test_docker_operator.py::test_"
_MACHINE = "machine/test_machine_install.py::test_"


def _conformance(*tests: str) -> tuple[str, ...]:
    return tuple(_CONFORMANCE + test for test in tests)


def _inside(*tests: str) -> tuple[str, ...]:
    return tuple(_INSIDE + test for test in tests)


def _machine(*tests: str) -> tuple[str, ...]:
    return tuple(_MACHINE + test for test in tests)


_CONTROLS = "kubectl get claudesandbox alice -o jsonpath='{.status.compliance}'"
_READY = "kubectl get claudesandboxes"

_HARDENED = _conformance(
    "runs_as_uid_and_gid_1000",
    "has_no_capability_and_can_get_none",
    "a_seccomp_filter_is_in_force",
    "the_root_and_the_settings_can_not_be_written_to",
)
_LIMITED = _conformance("memory_is_limited", "cpu_time_is_limited", "the_number_of_processes_is_limited")
_CUT_OFF = _conformance(
    "another_sandbox_can_not_be_connected_to",
    "the_host_can_not_be_connected_to",
    "the_control_plane_can_not_be_connected_to",
)
_KEYLESS = (
    *_conformance("brokered_the_key_is_not_in_the_sandbox", "the_key_is_nowhere_else"),
    *_inside("the_key_is_in_no_environment_and_no_command_line", "the_key_is_in_no_object_but_its_secret"),
)
_NEW_KEY = (
    *_conformance("a_new_key_is_in_place_without_a_restart"),
    "docker/gateway/test_docker_gateway_status.py::test_a_refused_key_is_in_the_status_and_another_one_ends_that",
)
_CHECKED = (
    "e2e/test_check.py",
    "docker/measurement/test_docker_check.py::test_a_hardened_container_passes_on_the_engines_and_the_kernels_word",
    "docker/measurement/test_docker_check.py::test_a_privileged_container_fails_and_is_found_by_its_identifier",
)
_WORK = ("docker/work/test_docker_sessions.py", *_inside("one_works_in_it_with_the_rights_for_that"))
_AUDITED = (
    "unit/cli/test_audit_command.py",
    "e2e/demo/test_packaging_docker_demo.py::test_claude_code_works_in_it_by_the_gateway",
)

SECTIONS: tuple[tuple[str, tuple[Line, ...]], ...] = (
    (
        "What it protects against",
        (
            Line(
                "Unauthorized access to the host by an escape",
                Done.SAME,
                "No privileges, no host paths, no namespace of the host's; a runtime with a kernel of its own by"
                " `spec.security.runtimeClassName`. What the kernel says is measured.",
                _CONTROLS,
                (*_HARDENED, "docker/sandboxes/test_docker_operator.py::test_the_kernel_is_a_second_witness"),
            ),
            Line(
                "The API key in logs or in version control",
                Done.OTHER,
                "The sandbox has no key: the gateway adds it to requests.",
                "claude-sandbox shell alice -- env",
                _KEYLESS,
            ),
            Line("More privileges inside", Done.SAME, "PRIV-01 to PRIV-08, KERN-01.", _CONTROLS, _HARDENED),
            Line(
                "Attacks from the network",
                Done.SAME,
                "Nothing gets in but declared ports, and nothing out but by the gateway.",
                _CONTROLS,
                _CUT_OFF,
            ),
            Line("Exhausted resources", Done.SAME, "RES-01 to RES-06.", _CONTROLS, _LIMITED),
            Line(
                "It does not protect against: flaws of the host's kernel and engine, stolen keys by deceit, physical"
                " access, root on the host",
                Done.LEFT,
                "The same here; [the threat model](security-model.md) says what lies outside.",
            ),
        ),
    ),
    (
        "Container",
        (
            Line("Not root: UID 1000", Done.SAME, "PRIV-04.", _CONTROLS, _HARDENED[:1]),
            Line(
                "All capabilities dropped but SYS_ADMIN",
                Done.OTHER,
                "All of them: SYS_ADMIN is nearly root. PRIV-02.",
                _CONTROLS,
                _HARDENED[1:2],
            ),
            Line(
                "No new privileges",
                Done.SAME,
                "PRIV-03.",
                _CONTROLS,
                (
                    "docker/measurement/test_docker_kernel_witness.py::test_of_a_hardened_container_the_kernel_confirms_everything",
                ),
            ),
            Line("Limits: 2 GB of memory, 2 CPUs", Done.SAME, "The defaults of `spec.resources`.", _CONTROLS, _LIMITED),
            Line(
                "Health checks",
                Done.SAME,
                "`Ready` means that Claude Code answers, and that its gateway does.",
                _READY,
                (
                    *_conformance("comes_to_ready_and_compliant"),
                    "docker/faults/test_docker_faults.py::test_where_claude_code_does_not_answer",
                ),
            ),
            Line(
                "A seccomp profile that allows Docker operations",
                Done.OTHER,
                "The runtime's own, or `Strict`: made from what Claude Code and usual tools call. KERN-01.",
                _CONTROLS,
                (*_HARDENED[2:3], "docker/sandboxes/test_docker_strict.py"),
            ),
        ),
    ),
    (
        "Network",
        (
            Line("A network of its own", Done.SAME, "One for each sandbox. NET-01 to NET-13.", _CONTROLS, _CUT_OFF),
            Line(
                "Only the ports that are needed",
                Done.SAME,
                "`spec.network.ports`; none by default.",
                _CONTROLS,
                _conformance("a_declared_port_can_be_connected_to_and_no_other"),
            ),
            Line(
                "The engine's port bound to this machine only",
                Done.OTHER,
                "The engine listens to its socket; an engine by TCP needs TLS (HOST controls).",
                "kubectl get dockerhosts",
                (
                    "docker/engines/test_engines_remote.py::test_only_who_has_a_certificate",
                    "docker/measurement/test_docker_check.py::test_the_engine_itself_is_measured",
                ),
            ),
            Line(
                "Ports by configuration",
                Done.SAME,
                "`spec.network.ports`, on 127.0.0.1 unless the host's administrator says otherwise.",
                _READY,
                ("docker/work/test_docker_ports.py", _OPERATOR + "ports_are_published_told_and_published_again"),
            ),
        ),
    ),
    (
        "API key",
        (
            Line(
                "In the environment, not hardcoded",
                Done.OTHER,
                "In a Secret that opted in; an environment is readable by every program. SEC-01.",
                _CONTROLS,
                _KEYLESS,
            ),
            Line(
                ".env with permissions 600",
                Done.OTHER,
                "The gateway holds it in memory. Mounted by wish: a file for the agent alone. SEC-02.",
                _CONTROLS,
                _conformance("the_key_is_a_file_for_the_agent_alone"),
            ),
            Line(
                "Templates for configuration",
                Done.SAME,
                "One resource; what looks like a credential in it is refused when it is applied.",
                "kubectl apply --dry-run=server -f alice.yaml",
                ("api/contract/test_documents.py", "attacks/credentials/test_attack_credentials_in_plain_sight.py"),
            ),
            Line(
                "Rotation",
                Done.SAME,
                "Change the Secret; the next request uses it. `CredentialsCurrent`.",
                _READY,
                _NEW_KEY,
            ),
            Line(
                "A key for this alone",
                Done.SAME,
                "A Secret is used where it has the type or label that opts it in.",
                _READY,
                ("operator/sandboxes/test_operator_keys.py::test_a_secret_that_did_not_opt_in_can_not_be_used",),
            ),
            Line(
                "Never commit .env",
                Done.OTHER,
                "There is none to commit. `check files` finds credentials in Compose files and manifests.",
                "claude-sandbox check files .",
                ("unit/manifests",),
            ),
        ),
    ),
    (
        "Docker in Docker",
        (
            Line(
                "The host's Docker socket is shared",
                Done.OTHER,
                "Never: who has the socket has the host. FS-03 fails where it is found.",
                "claude-sandbox check container NAME",
                ("attacks/measurement/test_attack_mounts_in_disguise.py", *_CHECKED[2:]),
            ),
            Line(
                "No privileged mode",
                Done.SAME,
                "PRIV-01.",
                _CONTROLS,
                _CHECKED[2:],
            ),
            Line(
                "Docker operations are logged by the host's daemon",
                Done.OTHER,
                "There are none. What the agent asks the gateway for is written down, one line each.",
                "claude-sandbox audit alice",
                _AUDITED,
            ),
        ),
    ),
    (
        "Risks",
        (
            Line("Access to the Docker socket", Done.SAME, "FS-03.", _CONTROLS, _CHECKED[1:2]),
            Line(
                "Escape from the container",
                Done.SAME,
                "As above, and healed when it is loosened.",
                _CONTROLS,
                _conformance("what_was_loosened_is_put_back"),
            ),
            Line("The key becomes known", Done.SAME, "As above.", "claude-sandbox shell alice -- env", _KEYLESS[:1]),
            Line(
                "Exhausted resources",
                Done.SAME,
                "As above, and what is short is in the status.",
                _READY,
                (
                    "e2e/test_life_of_a_sandbox.py::test_what_an_agent_does_to_its_memory_limit_is_said",
                    "docker/faults/test_docker_faults.py::test_out_of_memory_is_said_and_it_is_started_again",
                ),
            ),
            Line(
                "Attacks from the network",
                Done.SAME,
                "As above, and proven by trying.",
                _CONTROLS,
                ("docker/measurement/test_docker_probes.py::test_isolation_is_proven_and_said",),
            ),
            Line(
                "Flaws of the image",
                Done.SAME,
                "Production asks for a digest (IMG-01), `claude-sandbox due` for a newer one in time, and a policy for"
                " who has signed it, its SBOM and a scan ([Images](images.md)). What a scan found is for who attests it"
                " to judge.",
                "kubectl get claudesandbox alice -o jsonpath='{.status.image}'",
                (
                    "unit/compliance/containers/test_container_mutations.py",
                    "operator/lifecycle/test_operator_image_policies.py::test_only_what_is_signed_runs",
                    "unit/controller/images/test_image_keyless.py",
                    "unit/localcluster/images/test_images_sbom.py",
                ),
            ),
            Line(
                "Logs that tell too much",
                Done.SAME,
                "What the operator writes is redacted; logs on Docker rotate. What an agent writes is shown as it is.",
                "claude-sandbox logs alice",
                (*_KEYLESS[1:2], "docker/faults/test_docker_key_search.py"),
            ),
            Line(
                "A polluted workspace",
                Done.SAME,
                "The only place that outlives a pod. FS-08.",
                _CONTROLS,
                _inside("only_the_declared_places_are_writable"),
            ),
        ),
    ),
    (
        "Set up, and look after it",
        (
            Line(
                "security-setup.sh",
                Done.OTHER,
                "One command.",
                "claude-sandbox install",
                ("e2e/demo/test_packaging_whole_demo.py::test_it_ends_with_a_sandbox_that_is_ready_and_compliant",),
            ),
            Line(
                "security-check.sh",
                Done.OTHER,
                "All the time, and by hand for any container or pod.",
                "claude-sandbox check sandbox alice",
                _CHECKED,
            ),
            Line("whoami, id", Done.SAME, "PRIV-04.", "claude-sandbox shell alice -- id", (*_HARDENED[:1], *_WORK)),
            Line(
                "docker stats",
                Done.SAME,
                "What is short is a condition, an Event and a metric.",
                "kubectl describe claudesandbox alice",
                ("docker/faults/test_docker_faults.py::test_out_of_memory_is_said_and_it_is_started_again",),
            ),
            Line(
                "grep Cap /proc/1/status",
                Done.SAME,
                "The same file, read from outside. PRIV-02.",
                _CONTROLS,
                _HARDENED[1:2],
            ),
            Line(
                "The container's logs", Done.SAME, "With the rights for that alone.", "claude-sandbox logs alice", _WORK
            ),
            Line(
                "The daemon's logs",
                Done.OTHER,
                "What is done to a sandbox is told in Events.",
                "kubectl events --for claudesandbox/alice",
                (_OPERATOR + "whatever_is_done_to_it_is_told_in_an_event_and_counted",),
            ),
            Line(
                "netstat in the container",
                Done.OTHER,
                "The gateway's lines say each connection, denied ones too.",
                "claude-sandbox audit alice",
                _AUDITED,
            ),
        ),
    ),
    (
        "Production",
        (
            Line(
                "ENVIRONMENT=production",
                Done.SAME,
                "`spec.profile: Production`.",
                _READY,
                ("docker/gateway/test_docker_gateway_controls.py::test_it_is_compliant_in_production",),
            ),
            Line(
                "LOG_LEVEL=warn",
                Done.SAME,
                "A sandbox's own variables say how much Claude Code writes; the operator's log has `--log-level`:"
                " [Operations](operations.md).",
                "claude-sandbox shell alice -- env",
                ("gateway/test_claude_code_debug_log.py",),
            ),
            Line(
                "WORKSPACE_READ_ONLY=true",
                Done.SAME,
                "`spec.workspace.readOnly`.",
                _CONTROLS,
                ("docker/work/test_docker_repositories.py::test_in_production_and_in_an_image_of_theirs",),
            ),
            Line(
                "No development ports, no engine's port",
                Done.SAME,
                "None is open unless it is declared.",
                _READY,
                _conformance("a_declared_port_can_be_connected_to_and_no_other"),
            ),
        ),
    ),
    (
        "Backup and maintenance",
        (
            Line(
                "Back the workspace up",
                Done.SAME,
                "By a schedule or at once; encrypted, and verified by restoring it: [Backup](backup.md).",
                "claude-sandbox backup alice --claim backups --secret backups",
                ("docker/work/test_docker_backups.py",),
            ),
            Line(
                "Back the configuration up",
                Done.SAME,
                "The sandbox's manifest goes along; on a machine of your own the whole API every day.",
                "claude-sandbox machine backup",
                _machine("a_restore_brings_everything_back_and_touches_no_container"),
            ),
            Line(
                "New base images every month",
                Done.SAME,
                "`spec.updatePolicy`: a newer image is told of, or tried beside the agent, taken when that is idle, and"
                " given up if it does not work. What is old is said.",
                "claude-sandbox due",
                (
                    "unit/controller/sandboxes/test_due_dates.py",
                    "operator/lifecycle/test_operator_image_policies.py::test_what_does_not_work_beside_the_workload",
                    "docker/images/test_docker_image_policies.py",
                ),
            ),
            Line(
                "Another key every quarter",
                Done.SAME,
                "`claude-sandbox due` says when; change the Secret, and nothing is restarted.",
                "claude-sandbox due",
                _NEW_KEY,
            ),
            Line(
                "Test it: claude --version",
                Done.SAME,
                "`Ready` means that it answers.",
                _READY,
                _inside("claude_code_answers"),
            ),
            Line(
                "Review the security settings",
                Done.SAME,
                "All controls, with evidence and remedies, as a page.",
                "claude-sandbox report -o html",
                ("unit/report",),
            ),
        ),
    ),
    (
        "If the key is compromised",
        (
            Line(
                "Revoke it",
                Done.LEFT,
                "Where it was made: the operator has no right at the provider, by which who has the operator could do"
                " more. A server of yours that has one can be [told of it](incidents.md#revoked-by-a-hook). Until then"
                " the line below holds for all that share the Secret.",
            ),
            Line(
                "Use it no more",
                Done.SAME,
                "`spec.incident.state: KeyCompromised`: the gateway stops using it for all that share the Secret.",
                "claude-sandbox incident key-compromised alice",
                (
                    "operator/lifecycle/test_operator_quarantine.py::test_a_compromised_key_ends_who_holds_it",
                    "unit/controller/sandboxes/incidents",
                ),
            ),
            Line(
                "Make a new one with a limited scope, write it where it belongs",
                Done.SAME,
                "Into the Secret, which ends the incident. Its scope is the provider's; which models, and how much of"
                " them, `spec.model` and `spec.budget` say.",
                _READY,
                _NEW_KEY,
            ),
            Line(
                "Build the container anew",
                Done.OTHER,
                "It isn't needed: the sandbox held no key.",
                _READY,
                _KEYLESS[:1],
            ),
            Line(
                "Look for what was done with it",
                Done.SAME,
                "Requests and cost by model, each with its time.",
                "claude-sandbox audit alice",
                _AUDITED,
            ),
        ),
    ),
    (
        "If the container is compromised",
        (
            Line(
                "Stop it at once",
                Done.OTHER,
                "Frozen and cut off, so that evidence is kept.",
                "claude-sandbox incident quarantine alice",
                ("docker/incidents/test_docker_quarantine.py",),
            ),
            Line(
                "Read its logs",
                Done.SAME,
                "They are in the evidence, with what it changed and what ran.",
                "claude-sandbox incident collect alice -o evidence.tar",
                ("docker/incidents/test_docker_quarantine.py::test_what_it_was_is_kept_and_outlives_it",),
            ),
            Line(
                "Look at the host",
                Done.SAME,
                "Its controls; what the engine told of the sandbox is in the evidence (`events.jsonl`).",
                "claude-sandbox check host",
                ("docker/measurement/test_docker_check.py::test_the_engine_itself_is_measured",),
            ),
            Line(
                "Build it anew, from nothing",
                Done.SAME,
                "Lifted, it gets a new workload; what was frozen never goes on. Its workspace stays, or is kept aside.",
                "claude-sandbox incident lift alice --fresh-workspace",
                ("docker/incidents/test_docker_quarantine.py::test_released_it_never_goes_on_and_another_is_made",),
            ),
            Line(
                "Look at what it could reach",
                Done.SAME,
                "Each connection, and what was denied.",
                "claude-sandbox audit alice",
                _AUDITED,
            ),
        ),
    ),
    (
        "If the host is compromised",
        (
            Line(
                "Cut the host off",
                Done.LEFT,
                "By the switch or the hypervisor. That it is compromised is declared: the operator asks nothing of it"
                " any more, and gives it nothing. [Incidents](incidents.md#a-docker-host-is-compromised) has the"
                " steps.",
                "claude-sandbox incident host build-1 --compromised",
            ),
            Line(
                "Stop all its containers",
                Done.LEFT,
                "None comes any more, and the keys that were there are used by nobody; who has the host has what runs"
                " there.",
                "claude-sandbox incident host build-1",
            ),
            Line(
                "Save what matters",
                Done.OTHER,
                "Before, by a schedule, to a server elsewhere. Of a compromised host nothing is read any more; what is"
                " left there of each sandbox is named.",
                "claude-sandbox due",
                ("docker/work/test_docker_backups.py", "unit/controller/backups"),
            ),
            Line("Install it anew", Done.LEFT, "From media that were never on it, and as another DockerHost."),
            Line(
                "Restore from clean backups",
                Done.SAME,
                "By itself, with `spec.backup.whenHostCompromised`: on another host, with the last backup that was"
                " verified before. Others by `spec.restoreFrom`.",
                _READY,
                (
                    "unit/controller/docker_hosts/test_recoveries.py",
                    "attacks/operator/test_attack_leaving_a_host.py",
                ),
            ),
        ),
    ),
    (
        "Checklists",
        (
            Line(
                "Before first use; every month; before production",
                Done.SAME,
                "Each of their lines is answered by what was measured, or says what would answer it.",
                "claude-sandbox report -A",
                ("unit/report",),
            ),
        ),
    ),
)
