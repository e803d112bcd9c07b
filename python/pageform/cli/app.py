"""The commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from .batch import batch

app = typer.Typer(
    name="pageform", help="Typed answers from language models.", no_args_is_help=True, pretty_exceptions_enable=False
)
app.add_typer(batch)


def _version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        typer.echo(f"pageform {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version and stop.")
    ] = False,
) -> None: ...
