"""What a sandbox has in the place of its key."""

from claude_sandbox.backends.docker.keys.delivery import Key
from claude_sandbox.backends.docker.keys.placeholder import generation_of, placeholder_of


def of(value: bytes = b"sk-ant-x", generation: str = "7", uid: str = "u1") -> bytes:
    return bytes(placeholder_of(Key(generation, bytearray(value)), uid).value)


def test_it_is_the_same_each_time_and_another_for_each_sandbox_key_and_generation() -> None:
    assert of() == of()
    assert len({of(), of(value=b"sk-ant-y"), of(generation="8"), of(uid="u2")}) == 4


def test_it_has_256_bits_and_nothing_of_the_key() -> None:
    found = of(b"k" * 40)
    assert found.startswith(b"csb-")
    assert len(bytes.fromhex(found.removeprefix(b"csb-").decode())) == 32


def test_the_word_for_it_tells_which_key_it_stands_for() -> None:
    word = placeholder_of(Key("7", bytearray(b"x")), "u").generation
    assert (word, generation_of(word), generation_of("7"), generation_of(None)) == ("7~placeholder", "7", "7", None)
