"""What all parts of a spec have in common."""

from pydantic import ConfigDict

from claude_sandbox.api.model import Model


class Strict(Model):
    """A model of what users write: no type is converted into another."""

    model_config = ConfigDict(strict=True)
