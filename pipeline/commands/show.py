"""`paredown show`: what a model is, from which recipe, and with which evidence."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from paredown.pipeline.commands.output import print_measures

if TYPE_CHECKING:
    from paredown.pipeline.artifact.artifact import Artifact
    from paredown.pipeline.artifact.description import Fact
    from paredown.stages.products.manifest import Manifest


@click.command("show")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print all that is known as JSON.")
@click.option("--public-key", type=click.Path(path_type=Path), help="Also check its signatures with this key.")
def show_verb(file: Path, as_json: bool, public_key: Path | None) -> None:
    """Print what a model is, from which recipe, and with which evidence.

    FILE is any ONNX file, or the folder of an artifact or of a run.
    """
    from paredown.pipeline.artifact.artifact import read_artifact
    from paredown.pipeline.artifact.description import description_data, description_lines, readable_facts

    artifact = read_artifact(file)
    facts = readable_facts(artifact)
    for line in artifact.warnings:
        click.echo(f"warning: {line}", err=True)
    signed = _signed(artifact, public_key)
    if as_json:
        click.echo(
            json.dumps({**description_data(artifact, facts), **({"signed": signed} if signed else {})}, indent=2)
        )
    else:
        _print([*description_lines(artifact, facts), *signed.items()], artifact.manifest)


def _signed(artifact: "Artifact", public_key: Path | None) -> dict[str, str]:
    """What the signatures are worth; raises InputError where one is not good."""
    from paredown.pipeline.artifact.signing import check_signatures, signatures

    if public_key:
        names = ", ".join(file.name for file in check_signatures(artifact.file, public_key))
        return {"signed": f"{names}: good with {public_key}"}
    unchecked = [file.name for file in signatures(artifact.file)]
    return {"signed": f"{', '.join(unchecked)}: not checked; --public-key checks"} if unchecked else {}


def _print(facts: "Sequence[Fact]", manifest: "Manifest | None") -> None:
    from rich.console import Console

    from paredown.pipeline.artifact.description import evidence_lines
    from paredown.pipeline.report.written_measures import closing_rows

    console = Console(file=sys.stdout, highlight=False, markup=False)
    console.print(_grid(facts))
    if manifest:
        console.print()
        print_measures(closing_rows(manifest.checks))
        console.print()
        console.print(_grid([*evidence_lines(manifest)]))


def _grid(facts: "Sequence[Fact]") -> Any:
    from rich.table import Table
    from rich.text import Text

    from paredown.models.printable import printable

    grid = Table.grid(padding=(0, 2))
    for label, words in facts:
        grid.add_row(Text(printable(label), style="bold"), Text(printable(words), overflow="fold"))
    return grid
