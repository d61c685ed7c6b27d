"""The store finds the same objects by an index as by looking at them all."""

from collections.abc import Hashable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_sandbox.kubernetes_api.informers.store import Obj, Store, controller_uid, key_of


def labelled(obj: Obj) -> Iterable[Hashable]:
    return tuple((obj["metadata"].get("labels") or {}).values())


@st.composite
def objects(draw: st.DrawFn) -> Obj:
    metadata: dict[str, Any] = {
        "name": draw(st.sampled_from("abc")),
        "uid": draw(st.sampled_from("uv")),
        "resourceVersion": draw(st.sampled_from("123")),
    }
    if namespace := draw(st.sampled_from(["", "x", "y"])):
        metadata["namespace"] = namespace
    metadata["labels"] = draw(st.dictionaries(st.sampled_from("kl"), st.sampled_from("mn"), max_size=2))
    owners = draw(st.lists(st.sampled_from("pq"), max_size=1))
    metadata["ownerReferences"] = [{"uid": "other"}, *({"uid": o, "controller": True} for o in owners)]
    return {"metadata": metadata}


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), objects()),
        st.tuples(st.just("remove"), objects()),
        st.tuples(st.just("replace"), st.lists(objects(), max_size=5)),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(steps)
def test_indexes_agree_with_a_look_at_every_object(history: list[tuple[str, Any]]) -> None:
    store = Store({"label": labelled})
    plain: dict[tuple[str, str], Obj] = {}
    for verb, what in history:
        if verb == "put":
            assert store.put(what) is plain.get(key_of(what))
            plain[key_of(what)] = what
        elif verb == "remove":
            assert store.remove(key_of(what)) is plain.pop(key_of(what), None)
        else:
            before = dict(plain)
            plain = {}
            last = {key_of(o): o for o in what}
            for old, new in store.replace(what):
                if new is None:
                    assert old is not None
                    assert key_of(old) not in last
                else:
                    assert key_of(new) in last
            for key in last:
                held = store.get(*key)
                assert held is not None
                plain[key] = held
                assert held["metadata"]["resourceVersion"] == last[key]["metadata"]["resourceVersion"]
            assert set(before) - set(plain) == {k for k in before if store.get(*k) is None}

    assert {key_of(o): o for o in store} == plain
    assert len(store) == len(plain)
    for namespace in ("", "x", "y"):
        expected = [o for o in plain.values() if (o["metadata"].get("namespace") or "") == namespace]
        assert sorted(map(key_of, store.by_namespace(namespace))) == sorted(map(key_of, expected))
    for uid in ("p", "q", "other"):
        expected = [o for o in plain.values() if controller_uid(o) == uid]
        assert sorted(map(key_of, store.by_owner(uid))) == sorted(map(key_of, expected))
    for value in ("m", "n"):
        expected = [o for o in plain.values() if value in labelled(o)]
        assert sorted(map(key_of, store.by_index("label", value))) == sorted(map(key_of, expected))
        assert all(o is plain[key_of(o)] for o in store.by_index("label", value))
    assert set(store.index_values("label")) == {v for o in plain.values() for v in labelled(o)}


def obj(name: str, version: str, uid: str = "u") -> Obj:
    return {"metadata": {"name": name, "namespace": "x", "uid": uid, "resourceVersion": version}}


def test_a_replacement_tells_what_was_added_changed_recreated_and_deleted_and_nothing_else() -> None:
    store = Store()
    for o in (obj("same", "1"), obj("changed", "1"), obj("recreated", "1"), obj("deleted", "1")):
        store.put(o)
    changes = store.replace([obj("same", "1"), obj("changed", "2"), obj("recreated", "1", "v"), obj("added", "3")])
    told = {
        ((old or new)["metadata"]["name"], old is not None, new is not None)  # type: ignore[index]
        for old, new in changes
    }
    assert told == {
        ("changed", True, True),
        ("recreated", True, True),
        ("added", False, True),
        ("deleted", True, False),
    }


def test_an_unknown_index_is_an_error() -> None:
    with pytest.raises(KeyError):
        Store().by_index("colour", "red")


def test_an_object_that_an_index_has_no_value_for_leaves_the_store_as_it_was() -> None:
    def spec(o: Obj) -> Iterable[Hashable]:
        return (o["spec"],)

    store = Store({"spec": spec})
    store.put(obj("a", "1") | {"spec": "red"})
    with pytest.raises(KeyError):
        store.put(obj("a", "2"))
    (held,) = store.by_index("spec", "red")
    assert held is store.get(*key_of(held))
    assert store.remove(key_of(held)) is held
    assert store.by_index("spec", "red") == ()
