"""The options that a container's tmpfs is mounted with."""

import re


def key_value(option: str) -> tuple[str, str]:
    key, _, value = option.strip().partition("=")
    return key, value


def is_size(size: str | None) -> bool:
    """The kernel takes a size of 0 for none. Half of the machine's memory is what a tmpfs without a size has."""
    return size is not None and re.fullmatch(r"0*[1-9]\d*[kKmMgG]?|0*(?:[1-9]|[1-4]\d)%", size) is not None
