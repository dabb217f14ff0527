"""The base of everything that a recipe can say, and the failures that a person can mend."""

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    """A frozen part of a recipe: its fields are its YAML keys, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
