"""`paredown runtime`: interpreters of their own for runtimes that need one, made only when asked for."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from paredown.models.errors import InputError
from paredown.stages.runtimes.sidecars.environment import Sidecar
from paredown.stages.runtimes.sidecars.registry import SIDECARS, sidecar_of


@click.group("runtime")
def runtime_verbs() -> None:
    """Install, list and remove runtimes that need an interpreter of their own."""


@runtime_verbs.command("install")
@click.argument("name")
@click.option("--python", type=click.Path(path_type=Path), help="The interpreter to make it with.")
@click.option("--accept-licence", is_flag=True, help="Accept its terms without being asked.")
def install_verb(name: str, python: Path | None, accept_licence: bool) -> None:
    """Show what NAME is, where it goes and its terms, and install it once they are accepted."""
    sidecar = sidecar_of(name)
    sidecar.check()
    base = sidecar.interpreter(python)
    for line in announcement(sidecar, base):
        click.echo(line, err=True)
    if not (accept_licence or _accepted(name)):
        raise InputError(f"{name} is not installed: its licence was not accepted")
    click.echo("installing; this takes minutes", err=True)
    folder = sidecar.install(base)
    click.echo(f"its licence: {sidecar.licence_file() or 'the package brought no file of that name'}", err=True)
    click.echo(str(folder))


@runtime_verbs.command("list")
def list_verb() -> None:
    """List which are installed and where, and how to install the others."""
    for line in sidecar_lines():
        click.echo(line)


@runtime_verbs.command("remove")
@click.argument("name")
def remove_verb(name: str) -> None:
    """Remove NAME with all that was installed for it."""
    sidecar = sidecar_of(name)
    click.echo(f"removed {sidecar.folder}" if sidecar.remove() else f"{name} was not installed", err=True)


def sidecar_lines() -> Iterator[str]:
    """Every sidecar with where it is, or how to get it."""
    for name, sidecar in SIDECARS.items():
        yield f"{name:<{max(map(len, SIDECARS))}}  {sidecar.missing() or sidecar.folder}"


def announcement(sidecar: Sidecar, base: Path) -> Iterator[str]:
    """What is about to be installed, where, and under which terms."""
    yield f"{sidecar.name}: {', '.join(sidecar.requirements)} with what they need, {sidecar.size}, from pip's index"
    yield f"into {sidecar.folder}, with {base}"
    yield sidecar.terms
    yield f"Its own text decides, and comes with the package: {sidecar.licence}"


def _accepted(name: str) -> bool:
    """Asks the person at the terminal; raises InputError where there is none."""
    if not sys.stdin.isatty():
        raise InputError(f"{name} is not installed: no terminal to ask at; --accept-licence accepts its licence")
    return click.confirm("Do you accept this?", err=True)
