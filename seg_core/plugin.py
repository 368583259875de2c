"""`kind:` in a config picks a class: a name of ours, or `package.module:Name` of the user's own."""

import importlib
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, SerializeAsAny, WrapValidator


def import_path(path: str) -> Any:
    """The object at `package.module:Name`.

    Raises:
        ValueError: there is none.
    """
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, TypeError) as error:  # TypeError: a relative path
        raise ValueError(f"cannot import {path!r}: {error}") from None


@dataclass(frozen=True)
class Kinds:
    """An annotation of a field that is chosen by `kind`: our kinds, with their import paths."""

    known: dict[str, str]


def by_kind(known: dict[str, str], base: type[BaseModel]) -> tuple[Any, ...]:
    """Annotations that read a mapping with `kind` as the model of that kind.

    Args:
        known: our kinds, each with the import path of its model.
        base: what every model of this family is.
    """

    def choose(value: Any, _: Any) -> BaseModel:
        if isinstance(value, base):
            return value
        kind = value.get("kind") if isinstance(value, dict) else None
        names = ", ".join(known)
        if not isinstance(kind, str) or (kind not in known and ":" not in kind):
            raise ValueError(f"unknown kind {kind!r}; known: {names}, or package.module:Name")
        model = import_path(known.get(kind, kind))
        if not (isinstance(model, type) and issubclass(model, base)):
            raise ValueError(f"kind {kind!r} is no {base.__name__}")
        return model.model_validate(value)

    return Kinds(known), WrapValidator(choose), SerializeAsAny()  # type: ignore[type-arg]
