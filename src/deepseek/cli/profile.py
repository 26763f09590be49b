"""``deepseek profile``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from deepseek.cli.options import Runtime

if TYPE_CHECKING:
    from deepseek.inference.profiling import Profile

ROWS = 1024
"""Rows of a source that are prepared to see what that takes."""


def command(
    model: Annotated[str, typer.Argument(help="A bundle, a model folder, a GGUF file, a hub id or a catalogue name.")],
    task: Annotated[str, typer.Option(help="What the model is for, if it does not say so itself.")] = "",
    runtime: Runtime = "torch",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dtype: Annotated[
        str, typer.Option(help="auto, float32, bfloat16 or float16; for openvino also int8 and int4.")
    ] = "auto",
    batch: Annotated[str, typer.Option(help="Encoders: rows of a pass, several numbers with commas.")] = "1,32",
    length: Annotated[int, typer.Option(help="Encoders: tokens of a row.")] = 128,
    prefill: Annotated[int, typer.Option(help="Language models: tokens of the prompt that is read.")] = 512,
    context: Annotated[int, typer.Option(help="Language models: tokens before decoding begins.")] = 128,
    streams: Annotated[
        str, typer.Option(help="Language models: texts that are continued at once, several numbers with commas.")
    ] = "1",
    input: Annotated[  # noqa: A002 - the option's name
        str, typer.Option("--input", "-i", help="A table, file or data set: see what preparing its rows takes.")
    ] = "",
    json: Annotated[str, typer.Option("--json", help="Write all of it to this file.")] = "",
    plot: Annotated[str, typer.Option("--plot", help="Draw the roofline into this file (PNG, SVG, PDF).")] = "",
    trace: Annotated[str, typer.Option("--trace", help="Write PyTorch's trace to this file, for a browser.")] = "",
) -> None:
    """Say where time goes in a model, and how near each phase comes to what this machine can do.

    Encoders and classifiers run one pass; language models read a prompt (prefill) and continue texts (decode). For each
    phase: its time (median, warmed up), the operations and bytes that it cannot do without, the limit of the hardware
    that binds (arithmetic or memory; the roofline model), and the share of it that was reached. Then the modules and
    operators that took the time. The limits are those of `deepseek bench hardware`, measured first if they were not.

    Examples:

      deepseek profile runs/quickstart/bundle

      deepseek profile smollm2-135m-instruct --streams 1,8,32 --dtype bfloat16 --plot roofline.png

      deepseek profile runs/quickstart/bundle --runtime openvino --batch 1 --length 64 --json profile.json
    """
    from itertools import islice
    from pathlib import Path

    from deepseek.cli.rows import rows_of
    from deepseek.errors import ConfigError, require
    from deepseek.inference import profile
    from deepseek.inference.profiling.passes import numbers

    for file in filter(None, (json, plot)):  # before anything is measured
        if not Path(file).absolute().parent.is_dir():
            raise ConfigError(f"there is no folder {Path(file).absolute().parent} to write {Path(file).name} into")
    if plot:
        require("matplotlib.figure", "plots")
    rows = list(islice(rows_of(input), ROWS)) if input else None
    found = profile(
        model, task=task or None, runtime=runtime, device=device, dtype=dtype, batch=numbers(batch, "--batch"),
        length=length, prefill=prefill, context=context, streams=numbers(streams, "--streams"), rows=rows,
        trace=trace or None,
    )  # fmt: skip
    _print(found)
    if json:
        Path(json).write_text(found.to_json(), encoding="utf-8")
    if plot:
        from deepseek.inference.profiling.plot import draw

        draw(found, plot)


def _print(found: Profile) -> None:
    from deepseek.cli.output import print_table, print_text
    from deepseek.inference.profiling import words

    print_text(words.title(found))
    if limits := words.roof(found):
        print_text(limits)
    print_text("")
    print_table(words.HEADER, [words.row(phase) for phase in found.phases])
    print_text("")
    for phase in found.phases:
        if phase.reason:
            print_text(f"{phase.name}: {phase.reason}")
    for phase in found.phases:
        if shown := words.parts(phase):
            print_text("")
            print_table(words.PARTS, shown, title=f"where the time of {phase.name} goes")
    print_text("")
    print_text(words.outside(found.outside, words.prepared(found)))
    for note in found.notes:
        print_text(note)
