"""One API server, one operator, and each backend in turn; what was found is noted as the scenarios go by."""

import asyncio
import contextlib
import json
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import results
from adapter import GATEWAYS, GIT_NAME, GIT_PORT, OUTSIDE, PORT, Backend
from cloning_image import REFERENCE, cloning_image
from conformance_place import EARLY, KEY, Place
from docker_fleet import OWN, Operator, prepare
from dockerkit import IMAGE, stand_in_image
from enginekit import own
from gatewaykit import authority
from git_process import TOKEN, git_process
from nodekit import Kubectl, namespace, report
from on_docker import OnDocker
from on_kubernetes import OnKubernetes
from sandboxkit import Sandbox
from scenarios import BACKENDS, BY_ID, KUBERNETES, kind_of

from claude_sandbox.kubernetes_api.credentials import from_kubeconfig
from claude_sandbox.localcluster import engine
from claude_sandbox.localcluster.cluster import Cluster
from claude_sandbox.localcluster.images import ImageArchive, build_image
from claude_sandbox.localcluster.node import load_image

__all__ = ["stand_in_image"]

_RESULTS = pytest.StashKey[results.Results]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-results", action="store_true", help="write what the conformance suite finds")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_RESULTS] = results.Results()


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.getoption("--write-results", default=False) and session.testsfailed == 0:
        results.write(session.config.stash[_RESULTS], set(BY_ID))


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Note what becomes of a scenario; where the backend can't do it, that it doesn't is what has to be seen."""
    marker = pyfuncitem.get_closest_marker("scenario")
    if marker is None:
        return (yield)
    # For whoever reads a report of the run: see breakages.py.
    pyfuncitem.user_properties.append(("scenario", marker.args[0]))
    backend: Backend = pyfuncitem.funcargs["backend"]
    scenario, noted = BY_ID[marker.args[0]], pyfuncitem.config.stash[_RESULTS]
    if kind_of(backend.id) not in scenario.unavailable:
        answer = yield
        noted.note(backend.id, scenario.id, results.ENFORCED)
        return answer
    try:
        yield
    except results.CanNotError:
        noted.note(backend.id, scenario.id, results.UNAVAILABLE)
        return True
    pytest.fail(f"{backend.title} can do this by now: take it out of `unavailable` of scenario {scenario.id}")


@pytest.fixture(scope="module")
def of_sandboxes(sandbox_image: ImageArchive, tmp_path_factory: pytest.TempPathFactory) -> ImageArchive:
    """The image of sandboxes: the real one, with a stand-in for Claude Code."""
    return cloning_image(sandbox_image, tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def place(
    node: Cluster, kubectl: Kubectl, stand_in_image: ImageArchive, of_sandboxes: ImageArchive, tmp_path_factory: Any
) -> Iterator[Place]:
    """An operator for sandboxes of both kinds, whose default image is a stand-in. Private networks are opened."""
    load_image(node.layout, stand_in_image)
    load_image(node.layout, of_sandboxes)
    asyncio.run(prepare(from_kubeconfig(str(node.kubeconfig))))
    kubectl.apply(namespace(OWN))
    log: Path = tmp_path_factory.mktemp("operator") / "operator.log"
    opened = ("--open-private-network=10.0.0.0/8", "--open-private-network=172.16.0.0/12")
    own_image = build_image("operator", report)
    load_image(node.layout, own_image)
    relays = (f"--relay-image={own_image.reference}", f"--gateway-image={own_image.pinned}")
    images = (f"--sandbox-image={REFERENCE}", *relays)
    # What tries what can be reached comes and goes with the sandboxes' labels, by which the suite tells that nothing
    # was written; and whether its result is there when results are noted would be chance.
    settled = ("--log-format=json", "--pod-probe-interval=0", "--probe-interval=0")
    settings = log.with_name("gateways.json")
    certified = authority(log.parent, OUTSIDE, GIT_NAME)
    believing = {"egress": {**GATEWAYS["egress"], "caFile": str(certified.bundle)}}
    settings.write_text(json.dumps({**GATEWAYS, **believing}))
    gateways = f"--gateway-settings={settings}"
    made = Place(kubectl, Operator(node, log, *images, *opened, gateways, *settled), OWN, certified)
    try:
        made.secret("key", KEY)
        made.git_secret("git", TOKEN)
        made.start_operator()
        try:
            yield made
        finally:
            ended = made.operator.stop()
    finally:
        kubectl("delete", "namespace", OWN, "--wait=false")
    assert ended == 0, log.read_text()
    assert "Traceback" not in log.read_text()


# `make conformance` asks all of them. The old engine has every test of the Docker backend in turn already.
BY_DEFAULT = ("kubernetes", "docker-29")


@pytest.fixture(
    scope="module",
    params=[one if one in BY_DEFAULT else pytest.param(one, marks=pytest.mark.slow) for one in BACKENDS],
)
def backend(
    request: pytest.FixtureRequest,
    place: Place,
    node: Cluster,
    stand_in_image: ImageArchive,
    of_sandboxes: ImageArchive,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Backend]:
    """Each backend in turn, on which nothing is left of its sandboxes."""
    served, certificate = tmp_path_factory.mktemp("git"), (place.certified.certificate, place.certified.key)
    with (
        _on(request.param, place, node, (stand_in_image, of_sandboxes)) as made,
        git_process(made.network, OUTSIDE, certificate, served, GIT_PORT) as place.git,
    ):
        request.config.stash[_RESULTS].titles[made.id] = made.title
        try:
            yield made
        finally:
            everything = ("claudesandbox", "-n", place.namespace, "--all")
            place.kubectl("delete", *everything)


@contextlib.contextmanager
def _on(name: str, place: Place, node: Cluster, images: tuple[ImageArchive, ...]) -> Iterator[Backend]:
    if kind_of(name) == KUBERNETES:
        with contextlib.closing(OnKubernetes(node, place.kubectl, place.namespace, IMAGE)) as pods:
            yield pods
        return
    release = name.partition("-")[2]
    engine_name = own(f"conformance-{release.replace('.', '-')}")
    try:
        # With a way out, so that it is the sandbox's own network that has none.
        made = engine.up(engine_name, release, outside=True, say=report)
        for image in (*images, build_image("operator", report)):
            engine.load_image(made, image)
        with contextlib.closing(OnDocker(node, place.kubectl, place.namespace, IMAGE, made)) as containers:
            yield containers
    finally:
        engine.down(engine_name, report)


@pytest.fixture(scope="module")
def residents(place: Place, backend: Backend) -> tuple[Sandbox, Sandbox]:
    """Two sandboxes that are Ready, and that nothing is done to; the first may connect to a plain workload."""
    declared = {"allowedCIDRs": [f"{backend.declared.host}/32"], "allowedPorts": [PORT]}
    # On Kubernetes the control, that the second one answers, takes it. On an old Docker Engine neighbours of the host
    # could connect to what is published, so that it would not be Compliant.
    ports = [{"name": "web", "containerPort": PORT}] if kind_of(backend.id) == KUBERNETES else []
    alice = place.apply("alice", backend, network={"egress": declared})
    bob = place.apply("bob", backend, network={"ports": ports})
    for name, spec in EARLY.items():
        if name not in BY_ID or kind_of(backend.id) not in BY_ID[name].unavailable:
            place.apply(name, backend, **spec)
    for one in (alice, bob):
        one.wait("Ready")
    return alice, bob


@pytest.fixture(scope="module")
def alice(residents: tuple[Sandbox, Sandbox]) -> Sandbox:
    return residents[0]


@pytest.fixture(scope="module")
def bob(residents: tuple[Sandbox, Sandbox]) -> Sandbox:
    return residents[1]


@pytest.fixture
def found(request: pytest.FixtureRequest) -> results.Results:
    """What was found so far."""
    return request.config.stash[_RESULTS]
