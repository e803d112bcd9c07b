"""The command `pageform`: batches from the terminal. Needs no engine before a command uses one.

Owns nothing: each command opens what it needs, says what came of it, and ends. Exit code 0 when all went well, 1 when
lines of a batch failed, 2 for what was asked wrongly or could not be done.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line."""
    try:
        import typer  # noqa: F401
    except ImportError:
        print("The command line needs typer: pip install typer", file=sys.stderr)
        sys.exit(2)
    from .app import app

    app()
