"""The words of a command line: of a shell's script its own, and of a text that a person wrote none. Pure."""

import re
import shlex
from collections.abc import Iterator, Sequence
from itertools import pairwise

_LONGEST_SCRIPT = 100_000
_SHELL = re.compile(r"(?:.*/)?(?:ba|z|da|k|fi|a)?sh")
_SCRIPT = re.compile(r"-[a-z]*c")


def parted(words: Sequence[str]) -> Iterator[str]:
    """The words, and in the place of a shell's script the words of that."""
    is_shell = False
    for before, word in pairwise(["", *words]):
        is_shell = is_shell or _SHELL.fullmatch(word) is not None
        if is_shell and _SCRIPT.fullmatch(before) and len(word) <= _LONGEST_SCRIPT:
            try:
                yield from shlex.split(word)
            except ValueError:
                yield from word.split()
        else:
            yield word


def is_text(word: str) -> bool:
    """Whether a word has words in it."""
    return len(word.split(maxsplit=1)) > 1
