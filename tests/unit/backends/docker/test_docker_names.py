"""Names that engines take, people can read, and no two sandboxes share."""

import re
from ipaddress import IPv4Network

from hypothesis import given
from hypothesis import strategies as st

from claude_sandbox.backends.docker.names import HOME, WORKSPACE, is_kept_by, is_owned, labels_of, names_of
from claude_sandbox.backends.docker.steps import address_pools
from claude_sandbox.blueprint.model import Identity

# moby's daemon/names: what a container, a network and a volume may be called.
ACCEPTED = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")


def label(longest: int) -> st.SearchStrategy[str]:
    return st.from_regex(rf"[a-z0-9]([-a-z0-9]{{0,{longest - 2}}}[a-z0-9])?", fullmatch=True)


identities = st.builds(Identity, label(63), label(45), st.uuids().map(str))


@given(st.uuids().map(str), identities)
def test_every_name_is_accepted_and_short(cluster: str, identity: Identity) -> None:
    names = names_of(cluster, identity)
    for name in (names.container, names.helper, names.network, *names.all_volumes):
        assert ACCEPTED.fullmatch(name)
        assert len(name) <= 63
    assert len({names.container, names.helper, *names.all_volumes}) == 8


@given(st.uuids().map(str), identities, identities)
def test_no_two_sandboxes_share_a_name(cluster: str, one: Identity, other: Identity) -> None:
    if one == other:
        return
    first, second = names_of(cluster, one), names_of(cluster, other)
    assert first.container != second.container
    assert not {first.key, first.settings, first.accounts} & {second.key, second.settings, second.accounts}
    same_name = (one.namespace, one.name) == (other.namespace, other.name)
    assert (first.workspace == second.workspace) is same_name
    assert (first.home == second.home) is same_name


def test_what_only_looks_the_same_is_told_apart() -> None:
    """The readable parts are cut, and joined by what may be in them."""
    uid = "0b0c7f1e-1111-2222-3333-444455556666"
    pairs = [("a-b", "c"), ("a", "b-c"), ("x" * 63, "y" * 45), ("x" * 62, "y" * 45)]
    names = {names_of("c1", Identity(namespace, name, uid)).container for namespace, name in pairs}
    assert len(names) == len(pairs)
    assert names_of("c1", Identity("a", "b", uid)) != names_of("c2", Identity("a", "b", uid))


def test_what_is_kept_outlives_its_sandbox() -> None:
    old, new = Identity("agents", "alice", "1"), Identity("agents", "alice", "2")
    volume = {"Name": names_of("c1", old).workspace, "Labels": labels_of("c1", old, "workspace")}
    assert is_kept_by(volume, "c1", new, WORKSPACE)
    assert not is_kept_by(volume, "c1", new, HOME)
    assert not is_kept_by(volume, "c2", new, WORKSPACE)
    assert not is_kept_by(volume, "c1", Identity("agents", "bob", "2"), WORKSPACE)
    assert not is_owned(volume, "c1", new, "workspace")
    key = {"Name": "x", "Labels": labels_of("c1", old, "api-key")}
    assert is_owned(key, "c1", old, "api-key")
    assert not is_owned(key, "c1", new, "api-key")
    assert not is_owned({"Name": "x", "Labels": None}, "c1", old, "api-key")


POOL = IPv4Network("198.18.0.0/24")
addresses = st.integers(0, 255).map(lambda last: IPv4Network((int(POOL.network_address) + last // 8 * 8, 29)))


@given(st.text(), st.sets(addresses))
def test_a_network_gets_free_addresses_while_there_are_any(seed: str, taken: set[IPv4Network]) -> None:
    found = list(address_pools.candidates(POOL, seed, taken))
    assert len(found) == 32 - len(taken)
    assert len(set(found)) == len(found)
    assert not set(found) & taken
    assert all(network.subnet_of(POOL) for network in found)


def test_other_networks_addresses_are_seen() -> None:
    live = [
        {"IPAM": {"Config": [{"Subnet": "198.18.0.0/25", "Gateway": "198.18.0.1"}]}},
        {"IPAM": {"Config": [{"Subnet": "fd00::/64"}]}},
        {"IPAM": {"Config": None}},
        {"IPAM": None},
    ]
    taken = address_pools.taken_by(live)
    assert taken == (IPv4Network("198.18.0.0/25"),)
    assert all(not network.overlaps(taken[0]) for network in address_pools.candidates(POOL, "x", taken))
