"""`paredown init`: writes a first recipe to edit."""

from pathlib import Path

import click

from paredown.pipeline.commands.output import tell


@click.command("init")
@click.argument("model")
@click.argument("data")
@click.option("-o", "--output", default="recipe.yaml", show_default=True, type=click.Path(path_type=Path))
@click.option("--image-size", type=int, help="Side of the model's input in pixels (default: the library's, or 224).")
def init_verb(model: str, data: str, output: Path, image_size: int | None) -> None:
    """Write a first recipe to edit.

    MODEL is timm/<name>, torchvision/<name> or path/to/file.py:factory; DATA is a folder of images with one
    folder per class, or whatever else a recipe's data.source allows.
    """
    from paredown.pipeline.recipe.first_recipe import write_recipe

    write_recipe(model, data, output, image_size)
    tell(f"wrote {output}; next: paredown check {output}")
