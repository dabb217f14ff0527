"""Are promises kept? Finished artifacts measured again from outside, by `paredown verify`, quiet and beside load.

A promise is a limit that a run's manifest says holds, every file's digest, and what the file says of itself. The
figure is the share of them that is broken, each broken one with what was promised and what was measured. Accuracy is
checked on images that the run never saw, where there are such. Every result is written as one JSON line at once: what
was stopped goes on with what is not in the file.

    python benchmarks/promises.py --make 48              # small artifacts of four networks and two runtimes, hours
    python benchmarks/promises.py --load 2               # measures them quiet, then beside two busy processes
    python benchmarks/promises.py --load 2 runs/mine     # finished runs of one's own
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from load import busy
from tiny_artifacts import JOBS, made_already, make_artifact

from paredown.stages.products.manifest import Manifest

MADE = "made.jsonl"
"""The file, in the folder of made artifacts, that says what became of each."""
LEFT = ("not checked", "not comparable", "no limit")
"""Findings that are no answer."""


@dataclass(frozen=True)
class Outcome:
    """What one artifact's promises came to, beside so many busy processes: `found` are the promises that its manifest
    gave, as `paredown verify --json` has them; `withheld` are limits of which the manifest itself says that they do not
    hold. `line` says why there is no answer; `average` is the machine's load average before, and `made_beside` are
    those before and after the run that made the artifact, where they were written down."""

    artifact: str
    load: int
    found: tuple[dict[str, Any], ...] = ()
    withheld: tuple[str, ...] = ()
    line: str = ""
    average: float = 0.0
    made_beside: tuple[float, ...] = ()
    machine: str = ""
    seconds: float = 0.0

    def named(self, *findings: str) -> list[dict[str, Any]]:
        """The promises with one of these findings."""
        return [one for one in self.found if one["finding"] in findings]


@dataclass(frozen=True)
class Finished:
    """A run's folder, the images that were held back from it (empty: its own count), and the load averages when it was
    made."""

    run: Path
    held_back: str
    made_beside: tuple[float, ...] = ()


def measured_again(finished: Finished, load: int, seconds: float) -> Outcome:
    """A run's artifact, measured by `paredown verify` in a process of its own, beside so many busy ones."""
    run, held_back = finished.run, finished.held_back
    command = [sys.executable, "-m", "paredown", "verify", str(run), "--json", "--seconds", f"{seconds:g}"]
    command += ["--data", held_back] if held_back else []
    average = round(os.getloadavg()[0], 2)
    with busy(load) if load else nullcontext():
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if not done.stdout.startswith("{"):
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        return Outcome(run.name, load, line=lines[-1], average=average, made_beside=finished.made_beside)
    content = json.loads(done.stdout)
    withheld = tuple(check.name for check in Manifest.load(run / "artifact").checks if check.holds is False)
    given = tuple(one for one in content["promises"] if one["name"] not in withheld and one["finding"] not in LEFT)
    machine = f"{content['runtime']}, {content['machine'].get('cpu', '')}"
    return Outcome(
        run.name, load, given, withheld, "", average, finished.made_beside, machine, round(content["seconds"], 1)
    )


def read_outcomes(file: Path) -> list[Outcome]:
    """The last outcome of every artifact and load that the file has a line of."""
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    last = {(one["artifact"], one["load"]): one for one in lines}
    lists = ("found", "withheld", "made_beside")
    return [Outcome(**{**one, **{name: tuple(one.get(name, ())) for name in lists}}) for one in last.values()]


def table(outcomes: Sequence[Outcome]) -> str:
    """Markdown: artifacts and promises by network and runtime, then the sums."""
    columns = (
        "network and runtime",
        "beside",
        "artifacts",
        "promises",
        "kept",
        "undecided",
        "broken",
        "artifacts that break one",
    )
    lines = [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    groups = sorted({(_group(one), one.load) for one in outcomes})
    sums = [("all", load) for load in sorted({one.load for one in outcomes})]
    for group, load in [*groups, *sums]:
        chosen = [one for one in outcomes if one.load == load and group in ("all", _group(one)) and not one.line]
        lines.append(f"| {' | '.join((group, f'{load} busy' if load else 'nothing', *_counts(chosen)))} |")
    return "\n".join(lines)


def _group(outcome: Outcome) -> str:
    return ", ".join(outcome.artifact.split("-")[:2])


def _counts(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    kept, open_, broken = (
        sum(len(one.named(*names)) for one in outcomes) for names in (("pass",), ("inconclusive",), ("fail",))
    )
    breaking, total = sum(bool(one.named("fail")) for one in outcomes), kept + open_ + broken
    share = f"{broken} ({100 * broken / total:.1f} %)" if total else "0"
    return (str(len(outcomes)), str(total), str(kept), str(open_), share, f"{breaking} of {len(outcomes)}")


def explanations(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """A line for each broken promise, and for each that stayed open; and for artifacts without an answer."""
    for one in outcomes:
        beside = f"beside {one.load} busy processes" if one.load else f"at a load average of {one.average:g}"
        if one.made_beside:
            beside += f" (made at {' to '.join(f'{load:g}' for load in sorted(one.made_beside))})"
        for promise in one.named("fail", "inconclusive"):
            said = {"fail": "broken", "inconclusive": "undecided"}[promise["finding"]]
            yield f"* {one.artifact}, {beside}: {promise['name']} {said}: {_in_words(promise)}"
        if one.line:
            yield f"* {one.artifact}, {beside}: no answer: {one.line}"


def _in_words(promise: dict[str, Any]) -> str:
    value, told, ends = promise["value"], promise["told"], promise["ends"]
    if value is None:
        return str(promise["because"])
    interval = f" ({ends[0]:.3f} to {ends[1]:.3f})" if ends else ""
    was = f", the manifest measured {told:.3f}" if told is not None else ""
    return f"promised {promise['limit']}, measured {value:.3f}{interval} {promise['unit']}{was}"


def make(count: int, out: Path, limit: float) -> None:
    """Makes up to so many artifacts that are not there yet, one after the other."""
    out.mkdir(parents=True, exist_ok=True)
    known = made_already(out / MADE)
    for job in [job for job in JOBS[:count] if job.name not in known]:
        became = make_artifact(job, out, limit)
        with (out / MADE).open("a") as file:
            file.write(json.dumps(became) + "\n")
        click.echo(f"{job.name}: {became['code']} {became['line']}", err=True)


def _artifacts(runs: Sequence[Path], out: Path, data: str) -> Iterator[Finished]:
    for run in runs:
        yield Finished(run, data)
    if not runs:
        for name, became in made_already(out / MADE).items():
            if (out / name / "artifact" / Manifest.FILE).is_file():
                yield Finished(out / name, str(became["held_back"]), tuple(became["load"]))


@click.command()
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--make", "count", default=0, help="First make this many of the 48 small artifacts, where they are missing."
)
@click.option(
    "--out", default="runs/promises", show_default=True, type=click.Path(path_type=Path), help="Their folder."
)
@click.option("--limit", default=900.0, show_default=True, help="Seconds of one run.")
@click.option("--data", default="", help="Images that were held back from RUNS.")
@click.option("--load", default=0, show_default=True, help="Measure also beside so many busy processes.")
@click.option("--seconds", default=45.0, show_default=True, help="The longest that one latency is measured.")
@click.option("--most", type=int, help="Measure at most so many times.")
@click.option("--results", default="runs/promises.jsonl", show_default=True, type=click.Path(path_type=Path))
def main(
    runs: tuple[Path, ...],
    count: int,
    out: Path,
    limit: float,
    data: str,
    load: int,
    seconds: float,
    most: int | None,
    results: Path,
) -> None:
    """Measure finished artifacts again from outside: those of RUNS, else the small ones that were made."""
    results.parent.mkdir(parents=True, exist_ok=True)
    if count:
        make(count, out, limit)
    known = {(one.artifact, one.load) for one in read_outcomes(results)}
    artifacts = list(_artifacts(runs, out, data))
    wanted = [(one, beside) for beside in sorted({0, load}) for one in artifacts]
    for one, beside in [pair for pair in wanted if (pair[0].run.name, pair[1]) not in known][:most]:
        outcome = measured_again(one, beside, seconds)
        with results.open("a") as file:
            file.write(json.dumps(asdict(outcome)) + "\n")
        click.echo(f"{outcome.artifact}: {outcome.line or len(outcome.named('fail'))} broken", err=True)
    outcomes = read_outcomes(results)
    click.echo("\n".join([table(outcomes), "", *explanations(outcomes)]))


if __name__ == "__main__":
    main()
