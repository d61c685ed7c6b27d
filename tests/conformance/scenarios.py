"""What every backend is asked to show: the rows of docs/reference/backends.md."""

from collections.abc import Mapping
from dataclasses import dataclass, field

KUBERNETES, DOCKER = "kubernetes", "docker"

BACKENDS = ("kubernetes", "docker-29", "docker-20.10")
"""In the order of the table's columns; what comes before the dash is the kind of backend."""


def kind_of(backend: str) -> str:
    """`docker` of `docker-20.10`."""
    return backend.partition("-")[0]


@dataclass(frozen=True)
class Scenario:
    """One thing that a sandbox should do or withstand, the same on all backends.

    `proofs`, by kind of backend: the required controls and the parts of the status by which a user sees the same
    without this suite. `unavailable`: why a kind of backend can't do it; the suite then shows that it can't.
    """

    id: str
    group: str
    title: str
    proofs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unavailable: Mapping[str, str] = field(default_factory=dict)


def _both(*proofs: str) -> Mapping[str, tuple[str, ...]]:
    return {KUBERNETES: proofs, DOCKER: proofs}


_CLOSED = {KUBERNETES: ("NET-01", "NET-02"), DOCKER: ("NET-08",)}

_START, _INSIDE, _KEY, _NETWORK, _WORK, _LIFE = (
    "Start",
    "What the kernel holds the agent to",
    "The key",
    "The network",
    "Work",
    "Life and repair",
)

SCENARIOS = (
    Scenario("ready", _START, "A new sandbox comes to `Ready` and `Compliant`.", _both("Ready", "Compliant")),
    Scenario("user", _INSIDE, "UID and GID are 1000, and there is no other group.", _both("PRIV-04", "PRIV-05")),
    Scenario(
        "capabilities",
        _INSIDE,
        "No capability, in no set, and no way to get one (`NoNewPrivs`).",
        _both("PRIV-02", "PRIV-03"),
    ),
    Scenario("seccomp", _INSIDE, "A seccomp filter is in force.", _both("KERN-01")),
    Scenario(
        "strict-seccomp",
        _INSIDE,
        "With `Strict`, calls are refused that the runtime's own filter lets through and no agent needs.",
        _both("KERN-01"),
        {
            KUBERNETES: "a filter of one's own is a file on every node there, which nothing in a pod brings along;"
            " `Strict` is refused unless an administrator says where the nodes have it (`--strict-seccomp-profile`), as"
            " nobody does of the nodes that were tried here"
        },
    ),
    Scenario("root", _INSIDE, "The root file system and the managed settings can't be written to.", _both("FS-01")),
    Scenario("scratch", _INSIDE, "Scratch space is in memory and has a size.", _both("FS-07")),
    Scenario(
        "scratch-options",
        _INSIDE,
        "Scratch space is `nosuid` and `nodev`.",
        {DOCKER: ("FS-07",)},
        {
            KUBERNETES: "an emptyDir takes no mount options; `NoNewPrivs` and the device cgroup make set-user-ID files"
            " and device files there worthless"
        },
    ),
    Scenario("scratch-programs", _INSIDE, "A program in scratch space can be run, and has no more rights there."),
    Scenario(
        "scratch-noexec",
        _INSIDE,
        "With `executableScratch: false` no program in scratch space can be run.",
        {DOCKER: ("FS-07",)},
        {
            KUBERNETES: "an emptyDir takes no mount options; the API server refuses `executableScratch: false` and"
            " says so"
        },
    ),
    Scenario("memory", _INSIDE, "Memory is limited.", _both("RES-01")),
    Scenario("cpu", _INSIDE, "CPU time is limited.", _both("RES-02")),
    Scenario("processes", _INSIDE, "The number of processes is limited.", {DOCKER: ("RES-03",)}),
    Scenario("key-file", _KEY, "The key is a file that nobody but the agent and root can read.", _both("SEC-02")),
    Scenario(
        "key-only-there",
        _KEY,
        "The key is in no environment, command line, log, event, API object but its Secret, and in nothing that the"
        " engine tells.",
        _both("SEC-01"),
    ),
    Scenario("key-renewed", _KEY, "A new key is in place without a restart.", _both("CredentialsCurrent")),
    Scenario(
        "secret-mended",
        _KEY,
        "Without its Secret, or with one that did not opt in, nothing is started, the remedy is told, and the sandbox"
        " starts when it is mended.",
        _both("Stalled"),
    ),
    Scenario(
        "brokered",
        _KEY,
        "With `delivery: Brokered` the key is in no file, environment or memory of the sandbox's processes. What it has"
        " instead is taken by its gateway, and made up it is not.",
        _both("Ready"),
    ),
    Scenario("not-another-sandbox", _NETWORK, "Another sandbox can't be connected to.", _CLOSED),
    Scenario("not-the-host", _NETWORK, "The host can't be connected to.", _CLOSED),
    Scenario("not-the-control-plane", _NETWORK, "The API server can't be connected to.", _CLOSED),
    Scenario(
        "declared",
        _NETWORK,
        "What `allowedCIDRs` declares can be connected to.",
        {},
        {DOCKER: "a sandbox's network is internal and leads nowhere; its condition `Ready` says so"},
    ),
    Scenario(
        "by-name",
        _NETWORK,
        "With `delivery: Brokered` what `allowedDomains` declares is reached by its name, another name at the same"
        " address is not, nor is the address.",
    ),
    Scenario(
        "ports",
        _NETWORK,
        "A declared port can be connected to from where it is meant to be, and another that the agent opens can't.",
        {KUBERNETES: ("NET-11",), DOCKER: ("NET-11", "endpoints")},
    ),
    Scenario(
        "repositories",
        _WORK,
        "A repository is cloned before the agent starts, with a credential that is nowhere in the sandbox; a push does"
        " what was declared, and nothing else.",
        _both("RepositoriesReady"),
    ),
    Scenario("suspended", _LIFE, "Suspended, it keeps its workspace and has no process; resumed, it finds its files."),
    Scenario("killed", _LIFE, "A workload that was killed is back.", _both("heals", "Event Healed")),
    Scenario("loosened", _LIFE, "What was loosened is put back at once.", _both("heals", "Event Healed")),
    Scenario(
        "altered",
        _LIFE,
        "What only a new workload could mend is told with `OnDelete`, and mended with `Recreate`.",
        _both("Drifted"),
    ),
    Scenario("deleted", _LIFE, "Deleted, it leaves nothing, or its workspace alone, as it was told."),
    Scenario("restarted", _LIFE, "An operator that starts anew writes nothing."),
)
BY_ID: Mapping[str, Scenario] = {scenario.id: scenario for scenario in SCENARIOS}
