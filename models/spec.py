"""The base of everything that a recipe can say, and of what a lock records."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer, model_validator


class Record(BaseModel):
    """Frozen data whose fields are the keys of a file; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Spec(Record):
    """A part of a recipe: its fields are its YAML keys.

    A part inside it that is written only in part keeps the rest of the default that its place has, which may not be
    that of its class: with `quantize: {epochs: 3}` the learning rate stays the one that the stage gives this phase.

    `ADDED` names keys that did not exist from the start. They are not written out while they have their default, so
    that digests of recipes from before stay what they were: those of locks, of decoded images, of products.
    """

    ADDED: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _keep_the_rest_of_defaults(cls, written: Any) -> Any:
        return _completed(written, _defaults(cls)) if isinstance(written, Mapping) else written

    @model_serializer(mode="wrap")
    def _leave_out_added_defaults(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = plain(self)
        defaults, values = _defaults(type(self)), dict(self)
        same = {key for key in self.ADDED if values[key] == defaults[key]}
        return {key: value for key, value in written.items() if key not in same}


def _completed(written: Mapping[Any, Any], defaults: Mapping[str, Any]) -> dict[Any, Any]:
    """What was written, each part of it with what its default has for the keys that are left out."""
    return {key: _completed_part(value, defaults.get(key)) for key, value in written.items()}


def _completed_part(written: Any, default: Any) -> Any:
    if not (isinstance(written, Mapping) and isinstance(default, Spec)):
        return written
    values, of_class = dict(default), _defaults(type(default))
    # What the class has anyway is left to it: complaints then show what was written, and no more.
    rest = {name: value for name, value in values.items() if name not in written and value != of_class[name]}
    return _completed(written, values) | rest


def _defaults(cls: type[Spec]) -> dict[str, Any]:
    """Field to its default; what pydantic calls undefined where the field must be written."""
    return {name: field.get_default(call_default_factory=True) for name, field in cls.model_fields.items()}
