"""The lock beside a recipe: what its last run resolved to, one field per line and sorted, so that it merges.

A lock comes from version control, so anybody may have written it: it is data of a fixed shape, and nothing in it names
code to run.
"""

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, JsonValue, StringConstraints, ValidationError

from paredown.models.errors import InputError
from paredown.models.files import read_text, write_whole
from paredown.models.printable import printable
from paredown.models.spec import Record
from paredown.pipeline.machine_errors import machine_errors
from paredown.stages.limits import Caches

LARGEST = 16 * 2**20
"""Bytes; a lock of 500 sites has about 60 thousand."""

Text = Annotated[str, StringConstraints(max_length=500, pattern=r"^\P{C}*$")]
"""Without control characters, which could write anything into a terminal."""
Words = Annotated[str, StringConstraints(max_length=5000, pattern=r"^\P{C}*$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Numbers = dict[Text, FiniteFloat]


class RecipeRecord(Record):
    """The recipe: its name, and all that differs from paredown's defaults. Stages stand under their names."""

    name: Text
    seed: int = Field(ge=0, lt=2**32)
    stages: tuple[Text, ...]
    options: dict[str, JsonValue]


class LockedSplit(Record):
    """A split: how many images, and the sha256 of their pixels, as they were decoded, and of their labels."""

    count: int = Field(ge=0)
    sha256: Digest


class LockedInputs(Record):
    """What the recipe names, by content: `files` are plugins, `weights` and `model` are None where there is no file."""

    model: Digest | None
    weights: Digest | None
    files: dict[Text, Digest]
    data: Digest
    splits: dict[Text, LockedSplit]
    classes: tuple[Text, ...]
    licence: Text


class Environment(Record):
    """What a run was made with: versions, and the machine as far as a runtime depends on it. Times are those of
    `caches`; a lock from before there was a choice does not say so, and its were hot."""

    paredown: Text
    paredown_code: Digest
    packages: dict[Text, Text]
    runtime: Text
    machine: dict[Text, Text]
    weight_bits: int
    width_multiple: int
    caches: Caches = "hot"


class LockedDecisions(Record):
    """What was decided by a measurement or by the machine, beside the plan.

    Whether each phase trained in `bf16` was measured. Sums that are divided among other `threads` or `processes`, or
    computed on another `device`, end in other last bits; a run that was killed and went on elsewhere has several.
    """

    bf16: dict[Text, bool]
    device: tuple[Text, ...]
    threads: tuple[Annotated[int, Field(ge=1, le=1024)], ...]
    processes: tuple[int, ...]
    transforms: tuple[Text, ...]
    left_out: tuple[Text, ...]
    pinned: dict[Text, Text]
    replacements: dict[Text, tuple[Text, ...]]
    quantization: dict[str, JsonValue]
    warnings: tuple[Words, ...]


class LockedSearch(Record):
    """How the search came to the plan: predicted and measured ms and MiB, loss in nats, and what the solver proved."""

    solver: dict[str, JsonValue]
    limits: Numbers
    predicted: Numbers
    measured: Numbers
    gap: FiniteFloat | None
    plans_measured: int
    latency_table: Digest | None
    samples: int
    baseline_ms: FiniteFloat | None


class LockedMeasure(Record):
    """A `MeasureCheck` as a lock holds it: under its name, and of nothing but finite numbers and harmless text."""

    unit: Text
    before: FiniteFloat
    after: FiniteFloat
    limit: FiniteFloat | None
    holds: bool | None


class Lock(Record):
    """All that a run resolved to. `products` are sha256 of those files of products that hold no measured time; `search`
    is None where the plan itself came from a lock."""

    format: Literal[2]
    recipe: RecipeRecord
    inputs: LockedInputs
    environment: Environment = Field(alias="surroundings")
    decisions: LockedDecisions
    plan: dict[Text, Text]
    search: LockedSearch | None
    products: dict[Text, Digest]
    artifact: dict[Text, Digest]
    checks: dict[Text, LockedMeasure]


RUN_LOCK = "run.lock"
"""The same in a run's own folder, also of a run that replayed a lock."""


def lock_path(recipe_file: Path, suffix: str = "") -> Path:
    """`<recipe><suffix>.lock`; the suffix tells the models of a front apart."""
    return recipe_file.with_name(f"{recipe_file.stem}{suffix}.lock")


def read_lock(file: Path) -> Lock:
    """Raises InputError, one line with file and field, for everything that is no lock of this version."""
    text = read_text(file, LARGEST)
    try:
        return Lock.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise InputError(f"{file}: {_complaint(error)}") from error


def save_lock(lock: Lock, path: Path) -> None:
    """In one step. Raises MachineError where it cannot be written."""
    with machine_errors(path):
        write_whole(path, json.dumps(lock.model_dump(mode="json", by_alias=True), indent=1, sort_keys=True) + "\n")


def _complaint(error: ValidationError) -> str:
    """The first of pydantic's complaints, in our words."""
    faults = error.errors(include_url=False)
    kinds = {fault["loc"]: fault["type"] for fault in faults}
    if kinds.get(("format",)) == "missing" and kinds.get(("paredown",)) == "extra_forbidden":
        return "written by an older paredown: run the recipe again"
    first = next((fault for fault in faults if fault["loc"] == ("format",)), faults[0])
    field = ".".join(printable(part) for part in first["loc"])
    more = f" (and {len(faults) - 1} more)" if faults[1:] else ""
    got = "" if first["type"] in ("missing", "json_invalid") else f", got {printable(repr(first['input']))[:80]}"
    return f"{field + ': ' if field else ''}{first['msg']}{got}{more}"
