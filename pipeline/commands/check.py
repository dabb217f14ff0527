"""`paredown check`: checks a recipe before any work."""

import contextlib
import sys
from pathlib import Path

import click

from paredown.pipeline.commands.output import OUT_OPTION, RECIPE_ARGUMENT


@click.command("check")
@RECIPE_ARGUMENT
@OUT_OPTION
def check_verb(recipe: Path, out: Path) -> None:
    """Check a recipe before any work."""
    from paredown.pipeline.commands.progress_bars import show_progress
    from paredown.pipeline.recipe.recipe import load_recipe
    from paredown.pipeline.run.rehearsal import check_and_rehearse

    stdout, loaded, cache = sys.stdout, load_recipe(recipe), out / ".cache"
    with contextlib.redirect_stdout(sys.stderr), show_progress() as progress:  # the user's code may print
        for line in check_and_rehearse(loaded, cache, progress):
            click.echo(line, file=stdout)
    click.echo("ok")
