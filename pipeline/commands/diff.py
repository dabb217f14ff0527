"""`paredown diff`: what changed from one run to another, in words; what weighs most comes first."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from paredown.models.errors import InputError

DifferenceLines = tuple[str, ...]


@dataclass(frozen=True)
class LockDifference:
    """The second run as seen from the first, as lines: what became of the artifact, what that cost and gained, which
    sites changed by kind of change, and what else differs."""

    summary: DifferenceLines
    gains: DifferenceLines
    sites: Mapping[str, DifferenceLines]
    recipe: DifferenceLines
    inputs: DifferenceLines
    decisions: DifferenceLines
    surroundings: DifferenceLines


@click.command("diff")
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def diff_verb(first: Path, second: Path, as_json: bool) -> None:
    """Explain two runs in words.

    FIRST and SECOND are locks, or folders of runs such as runs/demo.
    """
    explained = explain_difference(first, second)
    text = json.dumps(asdict(explained), indent=2, ensure_ascii=False) if as_json else "\n".join(diff_lines(explained))
    click.echo(text)


def explain_difference(first: Path, second: Path) -> LockDifference:
    """How the second run differs from the first. Raises InputError for what is no lock and no folder of a finished
    run."""
    from paredown.pipeline.lock import changes
    from paredown.pipeline.lock.lock import read_lock

    a, b = (read_lock(lock_in(path)) for path in (first, second))
    sites = changes.sites_by_change_kind(a.plan, b.plan)
    return LockDifference(
        summary=tuple(changes.change_summary(a, b, sites)),
        gains=tuple(changes.measure_changes(a, b)),
        sites=sites,
        recipe=changes.field_changes(a.recipe, b.recipe, also=("options.",)),
        inputs=changes.field_changes(a.inputs, b.inputs),
        decisions=changes.decision_changes(a, b),
        surroundings=changes.field_changes(a.environment, b.environment),
    )


def lock_in(path: Path) -> Path:
    """The lock that `path` is, or that the run in the folder `path` has left there."""
    from paredown.pipeline.lock.lock import RUN_LOCK

    if path.is_dir() and not (path / RUN_LOCK).is_file():
        raise InputError(f"{path} holds no {RUN_LOCK}: no run in it has ended with an artifact")
    return path / RUN_LOCK if path.is_dir() else path


def diff_lines(explained: LockDifference, most: int = 12) -> Iterator[str]:
    """The lines to print, under headings; of more than `most` sites that changed alike the first are named."""
    yield from explained.summary
    yield from _listed("costs and gains", explained.gains)
    for kind, names in explained.sites.items():
        more = f", and {len(names) - most} more" if len(names) > most else ""
        yield f"\n{kind} ({len(names)}):"
        yield f"  {', '.join(names[:most])}{more}"
    for heading in ("recipe", "inputs", "decisions", "surroundings"):
        yield from _listed(heading, getattr(explained, heading))


def _listed(heading: str, lines: DifferenceLines) -> Iterator[str]:
    if lines:
        yield f"\n{heading}:"
        yield from (f"  {line}" for line in lines)
