"""The one error of fields: its text, and what pydantic's errors become."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field, field_validator

from spectrum.errors import FieldError, as_text
from spectrum.fields import Config


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        ("C/x", "'C/x'"),
        ("", "''"),
        (None, "None"),
        ((1, "C"), "1,C"),
        ([], "[]"),
        ([1, "C"], "1,C"),
        ([2], "[2]"),
        ((2,), "2"),
        (Path("/a") / ("b" * 100), "/a/" + "b" * 100),
        ("x" * 198, repr("x" * 198)),
        ("x" * 199, "'" + "x" * 196 + "..."),
        (10**5000, "a number of thousands of digits"),
        ((10**5000,), "a number of thousands of digits"),
    ],
    ids=lambda _: "",
)
def test_values_are_shown_in_at_most_60_characters(value: object, text: str) -> None:
    assert as_text(value) == text


def test_an_error_is_one_line_that_names_the_field() -> None:
    error = FieldError("recipe.lr", -1, "must be greater than 0")
    assert str(error) == "recipe.lr (=-1) must be greater than 0"
    assert str(error.renamed("--lr")) == "--lr (=-1) must be greater than 0"
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.field, copy.value, copy.allowed) == ("recipe.lr", -1, "must be greater than 0")


class Example(Config):
    count: int = Field(default=1, gt=0)
    kind: Literal["a", "b"] = "a"
    name: str = "x"
    both: int = 0

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if name == "bad":
            raise ValueError("must be good")
        return name

    @field_validator("both")
    @classmethod
    def _check_both(cls, both: int) -> int:
        if both:
            raise FieldError("other", both, "must not be given")
        return both


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"count": 0}, "count (=0) must be greater than 0"),
        ({"count": [2]}, "count (=[2]) must be a valid integer"),
        ({"count": "many"}, "count (='many') must be a valid integer, unable to parse string"),
        ({"kind": "c"}, "kind (='c') must be 'a' or 'b'"),
        ({"name": "bad"}, "name (='bad') must be good"),
        ({"both": 7}, "other (=7) must not be given"),
        ({"colour": 1}, "colour (=1) is not a known field; known: both, count, kind, name"),
    ],
)
def test_the_first_error_of_pydantic_is_one_of_a_field(
    fields: dict[str, object], text: str
) -> None:
    with pytest.raises(FieldError) as caught:
        Example.checked(fields)
    assert str(caught.value).startswith(text)


def test_a_configuration_shows_what_was_set_and_a_notebook_shows_all() -> None:
    class Shown(Config):
        name: str
        count: int = 3
        rate: float = 0.5

    assert repr(Shown(name="a", rate=0.5)) == "Shown(name='a')"
    assert repr(Shown(name="<b>", count=4)) == "Shown(name='<b>', count=4)"
    html = Shown(name="<b>", count=4)._repr_html_()
    assert all(text in html for text in ("Shown", "&lt;b&gt;", ">4<", ">rate<", ">0.5<"))


def test_true_and_false_are_no_numbers() -> None:
    class Example(Config):
        count: int = 3
        rates: tuple[float, ...] = ()
        flip: bool | None = None

    assert Example(flip=True).flip
    for fields in ({"count": True}, {"rates": [0.5, False]}):
        with pytest.raises(FieldError, match="must not be true or false"):
            Example.checked(fields)
