"""Docstrings as descriptions of types and of their fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

import pytest
from pydantic import BaseModel, Field, create_model, model_validator
from typing_extensions import TypedDict

from pageform.structured import Spec
from pageform.structured.describe import read_docstring

T = TypeVar("T")

GOOGLE = """A parcel.

    It is sent by post.

    Args:
        weight (float): in kilograms,
            packed
        to: where it goes

    Note:
        Insured.
    """
NUMPY = """A parcel.

    It is sent by post.

    Parameters
    ----------
    weight : float
        in kilograms,
        packed
    to
        where it goes

    Notes
    -----
    Insured.
    """
REST = """A parcel.

    It is sent by post.

    :param weight: in kilograms,
        packed
    :param to: where it goes
    """
EPYDOC = """A parcel.

    It is sent by post.

    @param weight: in kilograms,
        packed
    @param to: where it goes
    """


@pytest.mark.parametrize("docstring", [GOOGLE, NUMPY, REST, EPYDOC], ids=["google", "numpy", "rest", "epydoc"])
def test_every_common_style_is_read(docstring: str) -> None:
    model = create_model("Parcel", __doc__=docstring, weight=(float, ...), to=(str, ...))
    spec = Spec.of(model)
    properties = spec.json_schema["properties"]
    assert properties["weight"]["description"] == "in kilograms, packed"
    assert properties["to"]["description"] == "where it goes"
    assert spec.description is not None
    assert spec.description.startswith("A parcel.\n\nIt is sent by post.")
    assert "kilograms" not in spec.description
    assert ("Insured." in docstring) == ("Insured." in spec.description)


@pytest.mark.parametrize(
    "docstring",
    [
        "Just a sentence.",
        "Arguments: they are settled here.",
        "Reads args:\n\nand more",
        "See :param: in the manual.",
        "Args:\n",
        "Two words: a colon\n    and an indented line",
        "",
    ],
)
def test_other_docstrings_stay_whole(docstring: str) -> None:
    def documented() -> None: ...

    documented.__doc__ = docstring
    description, fields = read_docstring(documented)
    assert (description or "").split() == docstring.split()
    assert fields == {}


class Base(BaseModel):
    """A base.

    Args:
        name: the base's name
        size: the base's size
    """

    name: str
    size: int


class Derived(Base):
    """A derived one.

    Attributes:
        size: its own size
        color: what it looks like
    """

    color: Annotated[str, Field(description="given explicitly")]

    @model_validator(mode="before")
    @classmethod
    def same(cls, data: Any) -> Any:
        return data


def test_inherited_fields_keep_their_notes_and_explicit_ones_win() -> None:
    spec = Spec.of(Derived)
    described = {name: value["description"] for name, value in spec.json_schema["properties"].items()}
    assert described == {"name": "the base's name", "size": "its own size", "color": "given explicitly"}


def test_notes_on_what_is_no_field_are_not_lost() -> None:
    class Loose(BaseModel):
        """A loose one.

        Args:
            size: how large
            other: no field
        """

        size: int

    spec = Spec.of(Loose)
    assert spec.json_schema["properties"]["size"]["description"] == "how large"
    assert "other: no field" in (spec.description or "")


def test_notes_find_fields_by_name_and_by_alias() -> None:
    documented = "Doc.\n\nArgs:\n    one: the first\n    Two: the second"
    fields: Any = {"one": (int, Field(alias="One")), "two": (int, Field(validation_alias="Two"))}
    properties = Spec.of(create_model("M", __doc__=documented, **fields)).json_schema["properties"]
    assert {key: value["description"] for key, value in properties.items()} == {"One": "the first", "Two": "the second"}


@dataclass
class Point:
    """A point.

    Args:
        x: to the right
    """

    x: int
    y: int = 0


class Movie(TypedDict):
    """A movie.

    Args:
        title: on the poster
    """

    title: str


class Pair(NamedTuple):
    """A pair.

    Args:
        left: the first of them
    """

    left: int
    right: str = ""


class Box(BaseModel, Generic[T]):
    """A box.

    Args:
        content: what is inside
    """

    content: T


def test_all_kinds_of_records_are_described() -> None:
    assert Spec.of(Point).json_schema["properties"] == {
        "x": {"type": "integer", "description": "to the right"},
        "y": {"type": "integer", "default": 0},
    }
    assert Spec.of(Point).description == "A point."
    assert Spec.of(Movie).json_schema["properties"]["title"]["description"] == "on the poster"
    assert Spec.of(Box[int]).json_schema["properties"]["content"]["description"] == "what is inside"
    assert Spec.of(Pair).json_schema["prefixItems"] == [
        {"type": "integer", "title": "left", "description": "the first of them"},
        {"type": "string", "title": "right", "default": ""},
    ]


def test_nested_types_are_described_where_they_are_defined() -> None:
    class Route(BaseModel):
        stops: list[Point]
        last: Point = Field(description="where it ends")

    schema = Spec.of(Route).json_schema
    assert schema["$defs"]["Point"]["properties"]["x"]["description"] == "to the right"
    assert schema["properties"]["last"]["description"] == "where it ends"


def test_titles_made_of_names_are_left_out_and_given_ones_kept() -> None:
    class Titled(BaseModel):
        plain_name: int
        named: int = Field(title="A name of its own")

    assert Spec.of(Titled).json_schema == {
        "type": "object",
        "title": "Titled",
        "properties": {"plain_name": {"type": "integer"}, "named": {"type": "integer", "title": "A name of its own"}},
        "required": ["plain_name", "named"],
    }
