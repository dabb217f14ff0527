"""The budgets file: YAML in, frozen and checked `Gates` out, every complaint with file and line."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, WithJsonSchema, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from paredown.models.data.spec import DataSpec
from paredown.models.errors import InputError
from paredown.models.quantity import Unit, parse_quantity, quantity_pattern
from paredown.models.spec import Spec
from paredown.pipeline.recipe.faults import RecipeFault, as_error, known_keys, parse_spec
from paredown.pipeline.recipe.yaml_lines import read_yaml
from paredown.stages.limits import Target

_ALLOWED: tuple[Unit, ...] = ("x", "ms", "B", "")

MOST_SECONDS = 3600
"""Of measuring latency, in a gate."""


class Limit(Spec):
    """The most that is allowed: a factor of the baseline's own value (`1.05x`), or an absolute value (`8 ms`, `4 MiB`,
    `2.5 M`, `12`). `unit` is `x`, `ms`, `B` or empty for a plain number."""

    value: float = Field(ge=0, allow_inf_nan=False)
    unit: Unit
    written: str

    @model_validator(mode="before")
    @classmethod
    def parse(cls, written: Any) -> Any:
        if isinstance(written, Limit | Mapping):
            return written
        parsed = parse_quantity(written, _ALLOWED)
        if parsed is None or parsed[0] < 0:
            raise ValueError("must be a number with its unit, such as 1.05x, 8 ms, 4 MiB, 2.5 M or 12")
        value, unit = parsed
        return {"value": value, "unit": unit, "written": " ".join(str(written).split())}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "pattern": quantity_pattern(_ALLOWED), "description": "limit"}

    def __str__(self) -> str:
        return self.written


def _listed(written: Any) -> Any:
    return written if isinstance(written, list | tuple) else [] if written is None else [written]


Budget = Annotated[tuple[Limit, ...], BeforeValidator(_listed), WithJsonSchema({"type": "limit, or list of limits"})]
"""One limit or a list of them, all of which must hold."""

UNITS: Mapping[str, Unit] = {
    "bytes": "B",
    "parameters": "",
    "macs": "",
    "unquantized": "",
    "opset": "",
    "latency_p50": "ms",
    "latency_p95": "ms",
    "peak_memory": "B",
}
"""Budget to the unit of its absolute limits."""


class Budgets(Spec):
    """What the model must hold. Every limit is the most that is allowed, unless it says otherwise."""

    bytes: Budget = Field((), description="the file with all that belongs to it: 1.0x, 900 KiB or 4 MiB")
    parameters: Budget = Field((), description="trained numbers: 1.0x or 2.5 M")
    macs: Budget = Field((), description="multiply-adds of one inference: 1.0x or 100 M")
    unquantized: Budget = Field(
        (), description="operators that could compute in int8 and that the runtime computes in float: 1.0x or 2"
    )
    opset: Budget = Field((), description="version of ONNX's operators: 20")
    ops: Mapping[str, Limit] = Field({}, description="operator to how often it may be there: {Resize: 0, Clip: 1.0x}")
    operators: Annotated[tuple[str, ...], BeforeValidator(_listed)] | None = Field(
        None,
        description="the only operators that the target can run, `domain::Op` outside ONNX's own; `standard`: ONNX's",
    )
    latency_p50: Budget = Field((), description="median time of one inference: 1.05x or 8 ms")
    latency_p95: Budget = Field((), description="95th percentile of that time: 1.1x or 12 ms")
    peak_memory: Budget = Field((), description="peak memory of a fresh process: 1.05x or 90 MiB")
    accuracy_drop: float | None = Field(None, ge=0, le=100, description="points under the baseline, on the test split")
    accuracy: float | None = Field(None, ge=0, le=100, description="at least so many points, on the test split")
    parity: float | None = Field(None, ge=0, le=1, description="at least this share of answers like the baseline's")

    @model_validator(mode="after")
    def units_fit(self) -> "Budgets":
        for name, unit in UNITS.items():
            if wrong := next((one for one in getattr(self, name) if one.unit not in ("x", unit)), None):
                raise ValueError(f"{name}: {wrong} does not measure it; allowed: {_EXAMPLES[unit]}")
        if wrong := next((op for op, one in self.ops.items() if one.unit not in ("x", "")), None):
            raise ValueError(f"ops: {wrong}: {self.ops[wrong]} does not count it; allowed: {_EXAMPLES['']}")
        return self

    def limits(self) -> Iterator[tuple[str, Limit]]:
        """(budget, limit) of all that have a unit."""
        return ((name, limit) for name in UNITS for limit in getattr(self, name))

    @property
    def quality(self) -> bool:
        """Whether images are needed."""
        return not (self.accuracy_drop is None and self.accuracy is None and self.parity is None)

    @property
    def relative(self) -> bool:
        """Whether a baseline is needed."""
        factors = [limit for _, limit in self.limits()] + list(self.ops.values())
        drop = self.accuracy_drop is not None or self.parity is not None
        return drop or any(limit.unit == "x" for limit in factors)


_EXAMPLES: Mapping[Unit, str] = {"": "12, 2.5 M or 1.0x", "ms": "8 ms or 1.05x", "B": "4 MiB or 1.0x"}

DEFAULT = Budgets.model_validate({"bytes": "1.0x", "latency_p50": "1.05x", "peak_memory": "1.05x"})
"""Without a budgets file: no larger and no slower than the baseline. Times and memory are never measured exactly: up to
5 % more counts as the same."""


class Gates(Spec):
    """A budgets file. `root` is the folder that its relative paths start from."""

    target: Target = Field(Target(), description="where and how the model runs")
    baseline: str | None = Field(None, description="the model to compare with, pinned by the `.lock` beside this file")
    budgets: Budgets = Field(description="what the model must hold; at least one")
    data: DataSpec | None = Field(None, description="images for accuracy and parity, as in a recipe")
    output: str | None = Field(
        None, description="name of the output that holds one score per class, where a model has several outputs"
    )
    seed: int = Field(0, ge=0, le=2**32 - 1, description="seed of the images' split and of all that is drawn")
    machine: Mapping[str, str] = Field(
        {},
        description="where absolute times and memory were set, as `--watch-noise` prints it; what is given must agree",
    )
    seconds: float = Field(45, gt=0, le=MOST_SECONDS, description="the longest that latency is measured")
    confidence: float = Field(0.99, ge=0.8, lt=1, description="of the intervals that a verdict rests on")
    root: Path = Field(Path(), exclude=True)


def gates_for(budgets: Path | None, seconds: float | None = None) -> "Gates":
    """The gates of a budgets file, or without one the default: no larger and no slower than the baseline.

    `seconds` stands in for the longest that latency is measured. Raises InputError where no file could say it.
    """
    if seconds is not None and not 0 < seconds <= MOST_SECONDS:
        raise InputError(f"seconds is {seconds}; allowed: above 0, at most {MOST_SECONDS}")
    gates = read_gates(budgets) if budgets else Gates(budgets=DEFAULT)
    return gates if seconds is None else gates.model_copy(update={"seconds": seconds})


def read_gates(file: Path) -> Gates:
    """Reads and checks a budgets file. Raises InputError with one line per fault (`file:line: what; allowed: ...`)."""
    document = read_yaml(file)
    written, faults = known_keys(document, "a budgets file", [name for name in Gates.model_fields if name != "root"])
    gates, more = parse_spec(Gates, written | {"root": file.parent}, document, ())
    faults += more or (list(_faults_of(gates)) if gates else [])
    if faults or gates is None:
        raise as_error(document, faults)
    return gates


def _faults_of(gates: Gates) -> Iterator[RecipeFault]:
    """Faults that show only once everything is read."""
    budgets = gates.budgets
    if budgets == Budgets():
        yield RecipeFault(("budgets",), f"budgets sets no limit; allowed: {', '.join(Budgets.model_fields)}")
    if budgets.quality and gates.data is None:
        yield RecipeFault(("budgets",), "accuracy and parity need images: the key data is missing")
    absolute = [limit for name, limit in budgets.limits() if limit.unit != "x" and name in MEASURED]
    if absolute and not gates.machine:
        held = "absolute times and memory hold on one kind of machine only: the key machine is missing"
        yield RecipeFault(("budgets",), f"{absolute[0]}: {held}; `paredown gate --watch-noise` prints this machine's")


MEASURED = ("latency_p50", "latency_p95", "peak_memory")
"""Budgets whose values come from a machine."""
