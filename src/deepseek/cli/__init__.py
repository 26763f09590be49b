"""The ``deepseek`` command. Each command group is one thin file over the layers' public API."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point: run the command; print our own errors as one message, without a traceback."""
    try:
        _run()
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; nothing half-written was left behind\n")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output left, e.g. `deepseek data show T | head`
        sys.exit(0)


def _run() -> None:
    from deepseek.cli.app import app
    from deepseek.errors import DeepSeekError

    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    try:
        app(prog_name="deepseek")
    except DeepSeekError as error:
        if debug:
            raise
        from rich.markup import escape

        from deepseek.progress import console

        console().print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2)
