"""`paredown sign`: signatures beside an artifact, so that whoever gets it knows from whom it is."""

import os
from pathlib import Path

import click

from paredown.pipeline.artifact.signing import VARIABLE


@click.command("sign")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--key", required=True, type=click.Path(path_type=Path), help="Private elliptic key (PEM).")
@click.option("--ask", is_flag=True, help=f"Ask for the key's passphrase; without a terminal {VARIABLE} holds it.")
def sign_verb(artifact: Path, key: Path, ask: bool) -> None:
    """Write a signature beside every file of an artifact.

    ARTIFACT is an ONNX file, or the folder of an artifact or of a run. `paredown show --public-key` checks them.
    """
    from paredown.pipeline.artifact.artifact import read_artifact
    from paredown.pipeline.artifact.signing import sign_artifact

    model = read_artifact(artifact).file
    passphrase = click.prompt("passphrase", hide_input=True, err=True) if ask else os.environ.get(VARIABLE)
    for path in sign_artifact(model, key, passphrase):
        click.echo(str(path))
