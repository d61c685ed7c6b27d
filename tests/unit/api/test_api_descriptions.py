"""What is read of models' source for the generated files."""

from claude_sandbox.api.crds.descriptions import descriptions
from claude_sandbox.api.model import Model


class Whole(Model):
    """One with two fields."""

    told: str
    """What it is,
    in two lines."""
    silent: int = 0
    own: bool = False
    """Its own."""


class Part(Whole):
    """One that inherits."""

    own: bool = True
    """Another's own."""
    more: str = ""
    """More."""


def test_the_text_below_a_field_is_its_description() -> None:
    assert descriptions(Whole) == {"told": "What it is,\nin two lines.", "own": "Its own."}


def test_inherited_fields_have_theirs_and_one_that_is_said_anew_the_new_text() -> None:
    assert descriptions(Part) == {"told": "What it is,\nin two lines.", "own": "Another's own.", "more": "More."}


def test_no_model_reads_its_source_when_it_is_made() -> None:
    models = _below(Model)
    assert Part in models
    assert not [kind for kind in models if any(field.description for field in kind.model_fields.values())]


def _below(kind: type[Model]) -> list[type[Model]]:
    return [one for child in kind.__subclasses__() for one in (child, *_below(child))]
