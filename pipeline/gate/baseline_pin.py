"""The baseline's pin: `gates.lock` beside `gates.yaml` says which file it is, and what is in it, one field per line."""

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paredown.models.errors import InputError
from paredown.models.files import digest_file, read_json, resolve_path, write_whole
from paredown.models.onnx.facts import ModelFacts, model_facts, rules_of
from paredown.pipeline.gate.budgets import Gates
from paredown.pipeline.machine_errors import machine_errors

LARGEST = 16 * 2**20
"""Bytes of a lock."""


def pin_file_of(budgets: Path) -> Path:
    """`gates.lock` for `gates.yaml`."""
    if budgets.suffix == ".lock":
        raise InputError(f"{budgets}: a budgets file cannot be called that, as its lock is; allowed: another ending")
    return budgets.with_suffix(".lock")


def pinned_baseline(gates: Gates, budgets: Path) -> Path | None:
    """The baseline of a budgets file; None where it names none. Raises InputError where it is not the pinned one."""
    if gates.baseline is None:
        return None
    path, lock = resolve_path(gates.baseline, gates.root), pin_file_of(budgets)
    if not path.is_file():
        raise InputError(f"{budgets}: the baseline {path} does not exist; {_how(budgets)}")
    expected, got = read_pin(lock, budgets)["sha256"], digest_file(path)
    if expected != got:
        raise InputError(f"{path} is not the baseline that {lock} pins: its sha256 is {got}, not {expected}")
    return path


def read_pin(lock: Path, budgets: Path) -> Mapping[str, Any]:
    """The content of a pin's `gates.lock`; raises InputError where it cannot be read."""
    if not lock.is_file():
        raise InputError(f"{lock} does not exist, so the baseline is not pinned; {_how(budgets)}")
    content = read_json(lock, LARGEST)
    if not isinstance(content, dict) or not isinstance(content.get("sha256"), str):
        raise InputError(f"{lock} has no text `sha256`; {_how(budgets)}")
    return content


def _how(budgets: Path) -> str:
    return f"to make it: paredown gate MODEL --budgets {budgets} --update-baseline"


def update_baseline(gates: Gates, budgets: Path, model: Path) -> str:
    """Makes `model` the baseline, pins it, and returns how the lock changed, as a unified diff.

    What a reviewer sees is that diff: the model itself is binary, and perhaps kept elsewhere.
    """
    if gates.baseline is None:
        raise InputError(f"{budgets} names no baseline; the key `baseline` says where it is to be kept")
    path, lock = resolve_path(gates.baseline, gates.root), pin_file_of(budgets)
    if (path.suffix == ".gz") != (model.suffix == ".gz"):
        raise InputError(
            f"{budgets}: baseline: {path.name} should end with .gz where {model.name} does, and only there"
        )
    facts = model_facts(model, rules_of(gates.target.runtime))
    if facts.bytes != model.stat().st_size:
        raise InputError(f"{model} keeps weights in other files; a baseline must be one file")
    before = lock.read_text(encoding="utf-8") if lock.is_file() else ""
    after = json.dumps(_content(gates.baseline, model, facts), indent=1, sort_keys=True) + "\n"
    with machine_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not (path.exists() and path.samefile(model)):
            write_whole(path, model.read_bytes())
        write_whole(lock, after)
    old, new = (text.splitlines(keepends=True) for text in (before, after))
    return "".join(difflib.unified_diff(old, new, f"{lock} before", f"{lock} now", n=1))


def _content(name: str, model: Path, facts: ModelFacts) -> dict[str, Any]:
    """What the lock holds, for a diff that people read: sums, then every layer."""
    return {
        "baseline": name,
        "sha256": digest_file(model),
        "bytes": facts.bytes,
        "parameters": facts.parameters,
        "macs": facts.macs,
        "opset": facts.opset,
        "ops": facts.ops,
        "layers": {
            layer.name: f"{layer.op} {layer.precision} {layer.bytes} B" for layer in facts.layers if layer.parameters
        },
    }
