"""``deepseek doctor``."""

from __future__ import annotations

from typing import Annotated

import typer


def command(json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Say what hardware, runtimes and extras are here, what is missing, and how to get it.

    Exits with 1 when something that every command needs is missing.
    """
    from deepseek.cli.output import print_json_line, print_table
    from deepseek.inference.hardware import examine

    findings = examine()
    if json:
        print_json_line([f.as_dict() for f in findings])
    else:
        marks = {"ok": "ok", "missing": "--", "broken": "!!"}
        print_table(
            ("what", "", "found", "what to do"), [(f.subject, marks[f.state], f.detail, f.remedy) for f in findings]
        )
    if any(f.state == "broken" for f in findings):
        raise typer.Exit(1)
