"""Reading YAML that a user wrote: every mistake is one sentence that names file and field."""

import re
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

from seg_core.errors import SegError

NAME_PATTERN = "[a-z0-9][a-z0-9_-]*"

Model = TypeVar("Model", bound="Strict")


class Strict(pydantic.BaseModel):
    """Base of all configuration: frozen, and unknown keys are refused."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def check_name(what: str, name: str) -> str:
    """A run's or a volume's name, which becomes a partition key and a folder.

    Raises:
        SegError: it has characters outside [a-z0-9_-] or begins with one of - and _.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise SegError(
            f"{what} name {name!r}: only lower-case letters, digits, - and _ may be in it, "
            "and it begins with a letter or a digit"
        )
    return name


def parse(model: type[Model], text: str | bytes, source: str) -> Model:
    """Parse YAML text as a model.

    Raises:
        SegError: it is no YAML mapping, or a field is unknown, missing or out of its range.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        where = f" in line {mark.line + 1}" if mark else ""
        what = " ".join(str(problem or error).split())
        raise SegError(f"{source}: is no valid YAML{where}: {what}") from None
    if not isinstance(content, dict):
        raise SegError(f"{source}: expected a YAML mapping of fields, found {content!r:.60}")
    return validate(model, content, source)


def validate(model: type[Model], content: dict[str, Any], source: str) -> Model:
    """As `parse`, for a mapping.

    Raises:
        SegError: a field is unknown, missing or out of its range.
    """
    try:
        return model.model_validate(content)
    except pydantic.ValidationError as error:
        raise SegError(f"{source}: {_sentence(error)}") from None


PLAIN = {
    "extra_forbidden": "is no field that is known here; look for a typing error",
    "missing": "is missing",
    "tuple_type": "expected a list, as in [64, 64, 64]",
    "too_long": "has too many entries",
}
"""Messages that a user understands, in the place of pydantic's."""


def _sentence(error: pydantic.ValidationError) -> str:
    parts = []
    for item in error.errors()[:3]:
        field = ".".join(str(p) for p in item["loc"])
        message = PLAIN.get(item["type"]) or item["msg"].removeprefix("Value error, ")
        # of fields that do not fit together the message names which, not the whole file
        named = bool(field) and item["type"] != "missing"
        given = f" (given: {item['input']!r:.80})" if named else ""
        parts.append(f"{field}: {message[:1].lower() + message[1:]}{given}".removeprefix(": "))
    return "; ".join(parts)


def read_file(path: str) -> bytes:
    """A file that the user named.

    Raises:
        SegError: it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SegError(f"{path}: cannot be read: {error.strerror}") from None
