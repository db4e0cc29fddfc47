"""Hypothesis strategies for the messages, built from the models themselves, so that a new field is tried without a word."""

import types
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from broker_config.delivery import DELIVERY
from broker_config.messages import CLASSES, Diagnosis, Finer, Message
from broker_config.topics import PRIORITIES, VERBS

MESSAGE_TYPES = tuple(sorted({row.message for row in DELIVERY.values()}, key=lambda one: one.kind))
EXAMPLES = [
    pytest.param(25, id="quick"),
    pytest.param(1000, id="long", marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
]

LEVEL = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,47}", fullmatch=True).filter(lambda level: level != "fleet")
PRIORITY = st.sampled_from(PRIORITIES)
VERB = st.sampled_from(VERBS)

_MOMENT = st.integers(631_152_000_000_000, 3_786_912_000_000_000).map(
    lambda us: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
)


def messages(kind: type[BaseModel]) -> st.SearchStrategy[Any]:
    """Valid messages of one type, over the whole range of each field."""
    fields = {
        name: _of(field.annotation, field.metadata)
        for name, field in kind.model_fields.items()
        if name != "schema_version"
        and (kind, name) not in ((Diagnosis, "probabilities"), (Diagnosis, "finer"))
    }
    if kind is Diagnosis:
        fields["probabilities"] = _probabilities()
        return st.builds(_with_finer, st.builds(kind, **fields), st.none() | messages(Finer))
    return st.builds(kind, **fields)


def any_message() -> st.SearchStrategy[Message]:
    """Valid messages of any type."""
    return st.sampled_from(MESSAGE_TYPES).flatmap(messages)


def _with_finer(diagnosis: Diagnosis, finer: Finer | None) -> Diagnosis:
    """A diagnosis with a finer label, which must be the predicted class or lie below it."""
    if finer is None:
        return diagnosis
    label = "/".join([diagnosis.prediction, *finer.label.split("/")[1:]])
    return Diagnosis.model_validate({**dict(diagnosis), "finer": finer.model_copy(update={"label": label})})


@st.composite
def _probabilities(draw: st.DrawFn) -> dict[str, float]:
    weights = draw(st.lists(st.floats(0.001, 1.0), min_size=len(CLASSES), max_size=len(CLASSES)))
    return {name: weight / sum(weights) for name, weight in zip(CLASSES, weights, strict=True)}


def _of(annotation: Any, metadata: list[Any]) -> st.SearchStrategy[Any]:  # noqa: PLR0911 - a table of types
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _of(arguments[0], [*_flat(arguments[1:]), *metadata])
    if origin in (Union, types.UnionType):
        return st.one_of(*(_of(argument, metadata) for argument in arguments))
    if origin is Literal:
        return st.sampled_from(arguments)
    least, most = _limit(metadata, "min_length", 0), _limit(metadata, "max_length", None)
    if origin is tuple:
        size = {"min_size": least, "max_size": min(3 if most is None else most, max(least, 3))}
        return st.lists(_of(arguments[0], []), **size).map(tuple)
    if origin is dict:
        return st.dictionaries(_of(arguments[0], []), _of(arguments[1], []), max_size=3)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return messages(annotation)
    return _scalar(annotation, metadata, least, most)


def _scalar(annotation: Any, metadata: list[Any], least: int, most: int | None) -> st.SearchStrategy[Any]:
    if annotation is str:
        pattern = _limit(metadata, "pattern", None)
        if pattern and "\\x00" not in pattern:
            return st.from_regex(pattern, fullmatch=True)
        return st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=40)
    if annotation is int:
        return st.integers(_limit(metadata, "ge", -(2**53)), _limit(metadata, "le", 2**53))
    if annotation is float:
        above = _limit(metadata, "gt", None)
        lowest = above if above is not None else _limit(metadata, "ge", None)
        return st.floats(
            lowest,
            _limit(metadata, "le", None),
            allow_nan=False,
            allow_infinity=False,
            exclude_min=above is not None,
        )
    if annotation is bytes:
        return st.binary(min_size=least, max_size=most or 300)
    return {bool: st.booleans(), datetime: _MOMENT, type(None): st.none()}[annotation]


def _flat(metadata: Any) -> list[Any]:
    found: list[Any] = []
    for one in metadata:
        found += one.metadata if isinstance(one, FieldInfo) else [one]
    return found


def _limit(metadata: list[Any], name: str, default: Any) -> Any:
    return next((value for one in metadata if (value := getattr(one, name, None)) is not None), default)
