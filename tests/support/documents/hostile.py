"""What somebody else chooses, as property tests choose it: any JSON, real documents with a part changed, any text."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

TEXTS = st.one_of(
    st.text(max_size=30),
    # Halves of pairs, which JSON can carry, what moves a cursor, and what turns the direction of writing.
    st.sampled_from(["\udcff", "\x1b[2J\x9b31m", "\u202egnp.exe", "a\nReady: True", "\x00", "x" * 5000, "", "1e999"]),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
BYTES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([b"\xff", b"\n\n", b"max max", b"9 9 9\n", b"0::/\xff\n", b"-\x00-", b": - "]),
)


@st.composite
def changed(draw: st.DrawFn, document: Any) -> Any:
    """The document with up to three of its parts, at any depth, made anything, or taken away."""
    made = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        made = _change(draw, made)
    return made


def _change(draw: st.DrawFn, part: Any) -> Any:
    keys: Sequence[Any] = ()
    if isinstance(part, Mapping):
        keys = sorted(part, key=str)
    elif isinstance(part, list):
        keys = range(len(part))
    if not keys or draw(st.integers(0, 9)) == 0:
        return draw(JSON)
    key = draw(st.sampled_from(keys))
    if isinstance(part, dict) and draw(st.integers(0, 5)) == 0:
        return {name: value for name, value in part.items() if name != key}
    made = list(part) if isinstance(part, list) else dict(part)
    made[key] = _change(draw, part[key])
    return made


@st.composite
def changed_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """A file with up to three places overwritten, inserted into, or cut."""
    made = content
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(made)))
        end = draw(st.integers(start, min(len(made), start + 40)))
        made = made[:start] + draw(BYTES) + made[end:]
    return made
