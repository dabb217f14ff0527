"""`paredown check`: checks a recipe before any work."""

from pathlib import Path

import click

from paredown.pipeline.commands.output import OUT_OPTION, RECIPE_ARGUMENT


@click.command("check")
@RECIPE_ARGUMENT
@OUT_OPTION
def check_verb(recipe: Path, out: Path) -> None:
    """Check a recipe before any work."""
    from paredown.pipeline.commands.progress_bars import show_progress
    from paredown.pipeline.recipe.check import check_recipe
    from paredown.pipeline.recipe.recipe import load_recipe

    with show_progress() as progress:
        for line in check_recipe(load_recipe(recipe), out / ".cache", progress):
            click.echo(line)
    click.echo("ok")
