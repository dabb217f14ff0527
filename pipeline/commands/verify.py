"""`paredown verify`: does a finished artifact hold here what its manifest promises?"""

from pathlib import Path
from typing import Literal

import click

from paredown.pipeline.commands.exit_codes import run_guarded
from paredown.pipeline.gate.outcome import INVALID, exit_code


@click.command("verify")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--baseline", type=click.Path(path_type=Path), help="The original, where it does not lie beside.")
@click.option("--data", help="Test images (folder, .npz, ...), where the recipe's own are not there.")
@click.option("--runtime", help="The runtime, where the manifest names a file of code, such as path/to/file.py.")
@click.option("--seconds", type=click.FloatRange(0, 3600, min_open=True), help="The longest that latency is measured.")
@click.option("--json", "as_json", is_flag=True, help="Print all that was found as JSON.")
@click.option(
    "--inconclusive",
    default="inconclusive",
    type=click.Choice(["pass", "fail", "inconclusive"]),
    help="What counts where nothing is broken, but not every limit could be checked (default: exit code 3).",
)
def verify_verb(
    artifact: Path,
    baseline: Path | None,
    data: str | None,
    runtime: str | None,
    seconds: float | None,
    as_json: bool,
    inconclusive: Literal["pass", "fail", "inconclusive"],
) -> None:
    """Measure a finished artifact again against its manifest.

    ARTIFACT is the folder of an artifact or of a run, or the model's file beside its manifest. Nothing of the run that
    made it is needed. Exit codes: 0 all promises hold, 1 one is broken, 2 bad input, 3 not all could be checked.
    """

    def action() -> int:
        from paredown.pipeline.commands.progress_bars import show_progress
        from paredown.pipeline.promises.table import as_json as in_json
        from paredown.pipeline.promises.table import as_table
        from paredown.pipeline.promises.verification import SECONDS, VerifyRequest, verify_artifact

        with show_progress() as progress:
            request = VerifyRequest(artifact, baseline, data, runtime, seconds or SECONDS)
            verification = verify_artifact(request, progress)
        click.echo((in_json if as_json else as_table)(verification), nl=False)
        return exit_code(verification.verdict, inconclusive)

    raise click.exceptions.Exit(run_guarded(action, own_fault=INVALID))
