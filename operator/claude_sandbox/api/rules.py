"""A rule that the API server and the models check alike: the same condition in CEL and in Python."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rule:
    """One validation rule of a model.

    `cel` is evaluated by the API server with `self` bound to the object of this model (Kubernetes CEL, with
    its quantity, CIDR and string libraries), `holds` by the model with itself; both must agree on
    every document.
    `message` says what to write instead; `field` is the path below the model that the message is about.
    """

    cel: str
    holds: Callable[[Any], bool]
    message: str
    field: str = ""
