"""`paredown import-recipe` and `export-recipe`: recipes of SparseML, in and out."""

from pathlib import Path

import click

from paredown.pipeline.commands.output import OUT_OPTION, RECIPE_ARGUMENT, tell


@click.command("import-recipe")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("model")
@click.argument("data")
@click.option("-o", "--output", default="recipe.yaml", show_default=True, type=click.Path(path_type=Path))
@click.option("--image-size", type=int, help="Side of the model's input in pixels (default: the library's, or 224).")
@click.option("--sparsity", type=click.FloatRange(0, 0.999), help="Fraction of zeros that the weights came with.")
def import_verb(
    source: Path, model: str, data: str, output: Path, image_size: int | None, sparsity: float | None
) -> None:
    """Turn a SparseML recipe into a paredown recipe.

    SOURCE is a SparseML recipe (.yaml, or .md with YAML front matter); MODEL and DATA are those of `paredown init`.
    """
    from paredown.pipeline.sparseml.importer import import_recipe

    for note in import_recipe(source, model, data, output, image_size, sparsity):
        tell(f"no counterpart: {note}")
    tell(f"wrote {output}; next: paredown check {output}")


@click.command("export-recipe")
@RECIPE_ARGUMENT
@OUT_OPTION
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write there instead of to stdout.")
@click.option("--style", default="epoch", show_default=True, type=click.Choice(["epoch", "stage"]))
def export_verb(recipe: Path, out: Path, output: Path | None, style: str) -> None:
    """Write the plan of a run as a SparseML recipe."""
    from paredown.pipeline.recipe.first_recipe import write_new_file
    from paredown.pipeline.recipe.recipe import load_recipe
    from paredown.pipeline.sparseml.exporter import export_recipe

    text, notes = export_recipe(load_recipe(recipe), recipe, out, style)
    for note in notes:
        tell(f"no counterpart: {note}")
    if output is None:
        click.echo(text, nl=False)
    else:
        write_new_file(text, output)
        tell(f"wrote {output}")
