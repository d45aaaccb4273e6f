"""Facts about the fields of configurations, which stand with the fields.

A field is declared as ``Annotated[type, Facts(...)] = default``. ``None`` as a default stands for a
value that follows from other things; ``Facts.unset`` names it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self, TypeAlias, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from spectrum.errors import FieldError, as_text, first_field_error
from spectrum.files import as_path

_T = TypeVar("_T")
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
"""The type of a field that holds an accuracy or another share."""
UserPath: TypeAlias = Annotated[Path, AfterValidator(as_path)]
"""The type of a field that holds a path; ``~`` is the user's home folder."""


class Stored(BaseModel):
    """A part of a file that is read back. Later versions may write further fields."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


def check_stored(adapter: TypeAdapter[_T], values: Any) -> _T:
    """What a file holds, as an adapter of pydantic checks it.

    Raises:
        FieldError: a value can't be what it is; its field is the place in the file.
    """
    try:
        return adapter.validate_python(values)
    except ValidationError as error:
        place = ".".join(map(str, error.errors(include_url=False)[0]["loc"]))
        raise first_field_error(error).renamed(place) from None


def _holds_bool(annotation: Any) -> bool:
    """Whether true and false are among the values of a type, or of its parts."""
    return annotation is bool or any(map(_holds_bool, get_args(annotation)))


class Config(BaseModel):
    """A frozen configuration, which refuses unknown fields. Its repr leaves defaults out."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_bool(cls, value: Any, info: ValidationInfo) -> Any:
        # For pydantic True is 1. A field takes true and false only if its type says so.
        items = value if isinstance(value, list | tuple) else [value]
        annotation = cls.model_fields[str(info.field_name)].annotation
        if any(isinstance(item, bool) for item in items) and not _holds_bool(annotation):
            raise ValueError("must not be true or false")
        return value

    @classmethod
    def checked(cls, fields: Mapping[str, Any]) -> Self:
        """A configuration with the given fields.

        Raises:
            FieldError: a field is unknown or has a value that it can't have.
        """
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise first_field_error(error, cls.model_fields) from None

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """The fields that aren't at their default, with their values."""
        for name, field in type(self).model_fields.items():
            if field.is_required() or getattr(self, name) != field.default:
                yield name, getattr(self, name)

    def _repr_html_(self) -> str:
        """All fields and their values as a table, for notebooks."""
        import pandas as pd

        values = pd.Series({name: as_text(getattr(self, name)) for name in type(self).model_fields})
        return values.to_frame(type(self).__name__).to_html()


@dataclass(frozen=True)
class Facts:
    """What other modules ask about a field.

    Attributes:
        metavar: the placeholder of its value in the help of a command.
        unset: what ``None`` stands for, for the help of a command.
        table: for a field of a grid that stands outside the tables of a TOML file, the table that
            it belongs to ("" for none); ``None`` for all other fields.
        is_switch: whether its flag takes no value and stands for True.
        names_run: whether its value is part of a run's id.
        changes_task: for the data, whether it changes what is classified or the measure, so that
            accuracies at two of its values can't be compared.
        changes_test_images: for the data, whether it changes the test images.
        needs: another field, and the values of it without which this field has no effect.
    """

    metavar: str | None = None
    unset: str = ""
    table: str | None = None
    is_switch: bool = False
    names_run: bool = True
    changes_task: bool = True
    changes_test_images: bool = True
    needs: tuple[str, tuple[str, ...]] | None = None


def field_facts(model: type[BaseModel], field: str) -> Facts:
    """The facts that a field of a model is declared with."""
    declared = model.model_fields[field].metadata
    return next((entry for entry in declared if isinstance(entry, Facts)), Facts())


def check_needs(config: BaseModel) -> None:
    """Raises a FieldError if a field is set that has no effect beside the others."""
    for field, info in type(config).model_fields.items():
        needs, value = field_facts(type(config), field).needs, getattr(config, field)
        if needs is None or value == info.default:
            continue
        other, allowed = needs
        other_value = getattr(config, other)
        if other_value not in allowed:
            known = " or ".join(allowed)
            named = "data of kind" if other == "kind" else other  # no flag is called kind
            raise FieldError(field, value, f"needs {named} {known}, not {other_value}")


def column_name(table: str, field: str) -> str:
    """The column of results for a field of a table; ``table`` is "" outside the tables."""
    return table if field == "name" else field
