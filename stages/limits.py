"""The parts of a recipe that say where an artifact runs and what it must hold: `Target`, `Bound` and `Limits`."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, GetJsonSchemaHandler, ValidationInfo, field_validator, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from paredown.models.quantity import Unit, parse_quantity, quantity_pattern
from paredown.models.spec import Spec

_ALLOWED: tuple[Unit, ...] = ("x", "ms", "B")

Caches = Literal["cold", "hot"]
"""How a timed run finds the processor's caches."""

CACHES_IN_WORDS: Mapping[Caches, str] = {
    "cold": "other memory was read before every run, as between two frames of a camera",
    "hot": "the model ran in a loop and found its weights in the processor's caches",
}


class Target(Spec):
    """Where the artifact will run."""

    ADDED: ClassVar[frozenset[str]] = frozenset({"caches"})

    runtime: str = Field(default="onnxruntime", description="name of a runtime, or path/to/file.py")
    threads: int = Field(default=1, ge=1, description="threads of one inference")
    batch: int = Field(default=1, ge=1, description="images per inference")
    container: Literal["plain", "gzip"] = Field(
        default="plain",
        description="how the artifact is stored: `gzip` turns zeros in weights into fewer bytes, unpacked when loaded",
    )
    caches: Caches = Field(
        default="cold",
        description="what a timed run finds: `cold`, other memory was read since the last one, as between two frames "
        "of a camera; `hot`, the model runs in a loop and finds its weights in the processor's caches",
    )


class Bound(Spec):
    """A limit: an absolute value, or a factor of the baseline's own. Written `0.5x`, `8 ms`, `4 MiB`."""

    value: float = Field(gt=0, allow_inf_nan=False)
    unit: Literal["x", "ms", "MiB"]

    @model_validator(mode="before")
    @classmethod
    def parse(cls, written: Any) -> Any:
        if isinstance(written, Bound | Mapping):
            return written
        parsed = parse_quantity(written, _ALLOWED)
        if parsed is None:
            raise ValueError("must be a number with its unit, such as 0.5x, 8 ms or 4 MiB")
        value, unit = parsed
        if value <= 0:
            raise ValueError("must be above 0")
        return {"value": value / 2**20, "unit": "MiB"} if unit == "B" else {"value": value, "unit": unit}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "pattern": quantity_pattern(_ALLOWED), "description": "number with unit"}

    def __str__(self) -> str:
        return f"{self.value:g}{'' if self.unit == 'x' else ' '}{self.unit}"

    def resolve(self, baseline: float) -> float:
        """The limit in the unit of `baseline` (ms or MiB)."""
        return self.value * baseline if self.unit == "x" else self.value


class Limits(Spec):
    """The hard limits: what the finished artifact must hold on the target's runtime."""

    ADDED: ClassVar[frozenset[str]] = frozenset({"confidence"})

    latency_p50: Bound | None = Field(default=None, description="median time of one inference: 0.5x or 8 ms")
    latency_p95: Bound | None = Field(default=None, description="95th percentile of that time: 0.5x or 8 ms")
    size: Bound | None = Field(default=None, description="the artifact's file: 0.5x, 4 MiB or 900 KiB")
    peak_memory: Bound | None = Field(default=None, description="peak memory of a fresh process: 0.8x or 90 MiB")
    accuracy_drop: float | None = Field(default=None, ge=0, le=100, description="points under the baseline, on test")
    confidence: float | None = Field(
        default=None,
        ge=0.8,
        lt=1,
        description="such as 0.95: a limit holds only where the far end of the interval does; without it, where the "
        "measured value does",
    )

    @field_validator("latency_p50", "latency_p95", "size", "peak_memory")
    @classmethod
    def fits_what_is_limited(cls, bound: Bound | None, info: ValidationInfo) -> Bound | None:
        absolute = "ms" if str(info.field_name).startswith("latency") else "MiB"
        if bound is not None and bound.unit not in ("x", absolute):
            raise ValueError(f"the unit {bound.unit} does not measure it; allowed: x, {absolute}")
        return bound

    @property
    def bounded(self) -> tuple[str, ...]:
        """The names of what is limited."""
        return tuple(name for name, value in self if value is not None and name != "confidence")

    @model_validator(mode="after")
    def agree(self) -> "Limits":
        p50, p95 = self.latency_p50, self.latency_p95
        if p50 and p95 and p50.unit == p95.unit == "ms" and p95.value < p50.value:
            raise ValueError(f"latency_p95 ({p95}) cannot be under latency_p50 ({p50})")
        return self
