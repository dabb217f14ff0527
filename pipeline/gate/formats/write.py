"""The forms that a gate's outcome is written in, and where they go."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

from paredown.models.errors import InputError
from paredown.models.files import write_whole
from paredown.pipeline.gate.formats.github import as_github_commands
from paredown.pipeline.gate.formats.junit import as_junit
from paredown.pipeline.gate.formats.markdown import as_markdown
from paredown.pipeline.gate.formats.table import as_table
from paredown.pipeline.gate.outcome import GateOutcome
from paredown.pipeline.machine_errors import machine_errors

VERSION = 1
"""Of the JSON form; it grows when a field goes or changes its meaning."""
SUMMARY = 1024**2
"""Bytes that GitHub takes as the summary of one step."""


def as_json(outcome: GateOutcome) -> str:
    """Everything, keys sorted; what is no number (a value that is not finite) is null."""
    checks = [asdict(check) | {"ratio": check.ratio} for check in outcome.checks]
    whole = asdict(outcome) | {"checks": checks, "verdict": outcome.verdict, "version": VERSION}
    return json_text(whole)


def json_text(content: Mapping[str, Any]) -> str:
    """JSON with sorted keys; a number that is not finite is null."""
    text = json.dumps(_plain(content), indent=2, sort_keys=True, allow_nan=False)
    # Some CI systems read commands out of whatever is printed: `##` is written so that they do not.
    return text.replace("##", "\\u0023\\u0023") + "\n"


FORMATS: Mapping[str, Callable[[GateOutcome], str]] = {
    "table": as_table,
    "json": as_json,
    "junit": as_junit,
    "markdown": as_markdown,
    "github": as_github_commands,
}
"""Name to what writes that form."""
SUFFIXES = {".json": "json", ".xml": "junit", ".md": "markdown"}


def form_of(path: Path) -> str:
    """The form that a file's suffix asks for; raises InputError for others, so that it can be asked before any work."""
    if path.suffix not in SUFFIXES:
        allowed = ", ".join(f"{suffix} ({form})" for suffix, form in SUFFIXES.items())
        raise InputError(f"cannot save {path}: the suffix {path.suffix!r} names no form; allowed: {allowed}")
    if path.is_dir():
        raise InputError(f"cannot save {path}: it is a folder")
    if not path.parent.is_dir():
        raise InputError(f"cannot save {path}: the folder {path.parent} does not exist")
    return SUFFIXES[path.suffix]


def save_as(outcome: GateOutcome, path: Path) -> None:
    """Writes the form that the suffix asks for; the file is there whole, or as it was before."""
    text = FORMATS[form_of(path)](outcome)
    with machine_errors(path):
        write_whole(path, text)


def write_step_summary(outcome: GateOutcome, environment: Mapping[str, str] = os.environ) -> str | None:
    """Adds the Markdown form to the step's summary where GitHub Actions names a file for it. Returns what went wrong,
    which is no reason to fail a gate."""
    if not (name := environment.get("GITHUB_STEP_SUMMARY")):
        return None
    try:
        with Path(name).open("ab") as file:
            room = SUMMARY - file.tell() - 2
            text = as_markdown(outcome, room)
            # A blank line ends whatever block another command of the step left open.
            file.write(("\n\n" if file.tell() and text else "").encode() + text.encode())
    except OSError as error:
        return f"the step's summary {name} cannot be written: {error.strerror or error}"
    return None if text else f"the step's summary {name} is full ({SUMMARY:,} bytes a step)"


def _plain(value: Any) -> Any:
    match value:
        case Mapping():
            return {str(key): _plain(one) for key, one in value.items()}
        case list() | tuple():
            return [_plain(one) for one in value]
        case float():
            return value if isfinite(value) else None
        case None | bool() | int() | str():
            return value
    return str(value)
