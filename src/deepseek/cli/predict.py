"""``deepseek predict``."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from deepseek.cli.options import Runtime

CHUNK = 1024
"""Rows that are answered together when they come from a file or a pipe."""


def command(
    model: Annotated[str, typer.Argument(help="A bundle, a model folder, a GGUF file, a hub id or a catalogue name.")],
    text: Annotated[list[str] | None, typer.Option("--text", "-t", help="A text to answer; may be repeated.")] = None,
    input: Annotated[  # noqa: A002 - the option's name
        str, typer.Option("--input", "-i", help="A table, file or data set with the rows; '-' reads one text a line.")
    ] = "",
    param: Annotated[
        list[str] | None, typer.Option("--param", "-p", help="NAME=VALUE for the task, e.g. max_new_tokens=50.")
    ] = None,
    task: Annotated[str, typer.Option(help="What the model is for, if it does not say so itself.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    runtime: Runtime = "torch",
) -> None:
    """Answer texts or rows; one JSON object a line on standard output.

    Examples:

      deepseek predict runs/quickstart/bundle -t "A quiet, luminous film." -t "Two hours I want back."

      deepseek predict smollm2-135m-instruct -t "The capital of France is" -p max_new_tokens=20

      cat reviews.txt | deepseek predict runs/quickstart/bundle -i - > answers.jsonl
    """
    from deepseek.cli.output import print_json_line
    from deepseek.errors import ConfigError
    from deepseek.inference import Predictor

    if not text and not input:
        raise ConfigError("expected --text TEXT or --input SOURCE; nothing to answer")
    parameters = dict(_parameter(p) for p in param or [])
    predictor = Predictor.load(model, task=task or None, device=device, runtime=runtime)
    predictor.definition.check_parameters(parameters)
    column = predictor.signature.inputs[0].name
    for rows in _chunks([{column: t} for t in text or []], input, column):
        for answer in predictor.predict(rows, parameters):
            print_json_line(answer)


def _parameter(argument: str) -> tuple[str, Any]:
    from deepseek.errors import ConfigError

    name, equals, value = argument.partition("=")
    if not equals or not name:
        raise ConfigError(f"expected --param NAME=VALUE, received {argument!r}")
    try:
        return name, json_module.loads(value)
    except ValueError:
        return name, value


def _chunks(given: list[dict[str, Any]], source: str, column: str) -> Iterator[list[dict[str, Any]]]:
    from deepseek.cli.rows import rows_of

    if given:
        yield given
    if not source:
        return
    lines = ({column: line.rstrip("\r\n")} for line in sys.stdin if line.strip())
    chunk: list[dict[str, Any]] = []
    for row in lines if source == "-" else rows_of(source):
        chunk.append(row)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
