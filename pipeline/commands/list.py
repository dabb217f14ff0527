"""`paredown list`: lists what a recipe can name, and how to install what is missing."""

import importlib.metadata

import click


@click.command("list")
def list_verb() -> None:
    """List what a recipe can name."""
    from paredown.pipeline.commands.runtime import sidecar_lines
    from paredown.stages import plugins

    for kind in plugins.KINDS:
        click.echo(f"{kind}:")
        names = plugins.plugin_names(kind)
        for name in names:
            lack = plugins.missing_requirement(kind, name)
            click.echo(f"  {name:<{max(map(len, names))}}  {lack or plugins.plugin_summary(kind, name)}")
        for line in plugins.refused_plugins(kind):
            click.echo(f"  {line}")
    click.echo("sidecars:")
    for line in sidecar_lines():
        click.echo(f"  {line}")
    click.echo("models:")
    for library in ("timm", "torchvision"):
        click.echo(f"  {f'{library}/<name>':<20} {library} {importlib.metadata.version(library)}")
    click.echo("  path/to/file.py:factory")
