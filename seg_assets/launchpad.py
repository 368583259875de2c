"""Fields of the launchpad from our own configuration: every type, default and help text.

Dagster's pages read its own config types only; these are made from the pydantic models, so that
what a person fills in there is what a YAML file says, and there is one description of a field.
"""

from collections.abc import Sequence
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import dagster as dg
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from seg_core.plugin import Kinds, import_path

OWN = "own"
"""Name of the choice that takes a user's own `kind: package.module:Name`."""

SCALARS: dict[type, Any] = {str: dg.String, int: dg.Int, float: dg.Float, bool: dg.Bool}


def fields_of(model: type[BaseModel]) -> dict[str, dg.Field]:
    """The fields of a model, by the names that a YAML file has.

    All of them may be left out: what is missing is refused with a sentence by the model itself.
    """
    return {
        info.alias or name: _field(info)
        for name, info in model.model_fields.items()
        if name != "kind"
    }


def _field(info: FieldInfo) -> dg.Field:
    text = info.description or _summary(info.annotation)
    if (default := _default(info)) is not None:
        text = f"{text} Default: {default}".strip()
    annotation = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
    return dg.Field(_type(annotation), is_required=False, description=text or None)


def _summary(model: Any) -> str:
    """The first line of a model's docstring."""
    return (model.__doc__ or "").strip().partition("\n")[0] if _is_model(model) else ""


def _default(info: FieldInfo) -> str | None:
    """The default as a person would write it; whole models speak for themselves."""
    value = info.default
    if info.is_required() or value is None or isinstance(value, BaseModel):
        return None
    if isinstance(value, list) and value and isinstance(value[0], BaseModel):
        return ", ".join(str(getattr(item, "kind", item)) for item in value)
    return str(list(value) if isinstance(value, tuple) else value)


def _type(annotation: Any) -> Any:
    """The Dagster config type of an annotation."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        kinds = [m for m in arguments[1:] if isinstance(m, Kinds)]
        return _choice(kinds[0].known) if kinds else _type(arguments[0])
    if origin in (Union, UnionType):
        return _union(arguments)
    if origin is Literal:
        return _enum(arguments)
    if origin in (list, tuple):
        return dg.Array(_type(arguments[0]))
    if _is_model(annotation):
        return dg.Shape(fields_of(annotation))
    return SCALARS.get(annotation, dg.Any)


def _union(arguments: Sequence[Any]) -> Any:
    """Something or nothing; a number or a list of numbers to sweep is asked for as a list."""
    some = [a for a in arguments if a is not NoneType]
    lists = [a for a in some if get_origin(a) is list]
    inner = _type((lists or some)[0])
    return dg.Noneable(inner) if NoneType in arguments else inner


def _enum(values: Sequence[str]) -> dg.Enum:
    # a name of its own for every set of values: Dagster knows an enum by its name
    name = "_or_".join(values)
    kind = Enum(name, {value: value for value in values})  # type: ignore[misc]
    return dg.Enum(name, [dg.EnumValue(v, python_value=kind[v].value) for v in values])


def _choice(known: dict[str, str]) -> dg.Selector:
    """One of our kinds with its fields, or the user's own."""
    choices: dict[str, dg.Field] = {}
    for kind, path in known.items():
        model = import_path(path)
        choices[kind] = dg.Field(
            dg.Shape(fields_of(model)), is_required=False, description=_summary(model)
        )
    choices[OWN] = dg.Field(
        dg.Permissive({"kind": dg.Field(str, description="package.module:Name")}),
        is_required=False,
        description="Your own class, with its fields.",
    )
    return dg.Selector(choices)


def content_of(model: type[BaseModel], given: dict[str, Any]) -> dict[str, Any]:
    """What was filled in, as a YAML file of the model says it: choices become `kind`."""
    annotations = {
        info.alias or name: (info.annotation, info.metadata)
        for name, info in model.model_fields.items()
    }
    return {
        name: _content(*annotations[name], value) if name in annotations else value
        for name, value in given.items()
    }


def _content(annotation: Any, metadata: Sequence[Any], value: Any) -> Any:
    if get_origin(annotation) is Annotated:
        annotation, *metadata = get_args(annotation)
    kinds = [m for m in metadata if isinstance(m, Kinds)]
    if kinds and isinstance(value, dict):
        ((kind, fields),) = value.items()
        if kind == OWN:
            return fields
        return {"kind": kind, **content_of(import_path(kinds[0].known[kind]), fields)}
    if isinstance(value, list):
        arguments = get_args(annotation)
        return [_content(arguments[0], (), item) for item in value] if arguments else value
    if isinstance(value, dict):
        models = [a for a in (annotation, *get_args(annotation)) if _is_model(a)]
        return content_of(models[0], value) if models else value
    return value


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
