"""``deepseek quantize``."""

from __future__ import annotations

from typing import Annotated

import typer


def command(
    bundle: Annotated[str, typer.Argument(help="A bundle, as `deepseek train` writes it.")],
    data: Annotated[str, typer.Argument(help="Rows with answers: a table, a file or a named data set.")],
    split: Annotated[str, typer.Option(help="Only rows of this split (tables with a split column).")] = "",
    max_drop: Annotated[
        float, typer.Option(help="How much worse the main metric may get, in its own unit; 0.005 is half a point.")
    ] = 0.005,
    calibration: Annotated[int, typer.Option(min=1, help="Rows that ranges are taken from; a quarter at most.")] = 300,
    runtime: Annotated[str, typer.Option(help="Whose copy it is: openvino or onnxruntime.")] = "openvino",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make an int8 copy of a bundle's model, and add it to the bundle if it answers as well.

    Weights and activations become 8-bit integers: a quarter of the size, and several times faster on processors with
    units for them (AVX-512 VNNI, AMX). Some rows calibrate the ranges of activations; all others are scored, with the
    plain model and with the copy. With `--runtime onnxruntime` the ranges of activations are found anew in each pass,
    and nothing is calibrated. `--runtime auto` considers the copy from then on; `deepseek explain` shows how fast
    it is. Take rows that the model did not learn from.

    Example:

      deepseek quantize runs/quickstart/bundle runs/quickstart/clean.lance --split test
    """
    from deepseek.cli.output import print_json_line, print_table
    from deepseek.cli.rows import of_split, rows_of
    from deepseek.inference import quantize

    rows = list(rows_of(data, where=of_split(split)))
    done = quantize(bundle, rows, runtime=runtime, max_drop=max_drop, calibration=calibration)
    record = done.record
    folder = done.bundle.path / done.bundle.manifest.compiled[f"{runtime}-int8"].folder
    size = sum(file.stat().st_size for file in folder.iterdir())
    whole = sum(r.size for name, r in done.bundle.manifest.files.items() if name.endswith(".safetensors"))
    if json:
        print_json_line({**record.model_dump(mode="json"), "drop": done.drop, "folder": str(folder), "bytes": size})
        return
    print_table(
        ("", f"{record.metric}, {record.rows:,} rows", "size"),
        [
            ("torch float32", f"{record.reference:.4f}", f"{whole / 1e6:,.1f} MB"),
            (f"{runtime} int8", f"{record.value:.4f}", f"{size / 1e6:,.1f} MB"),
        ],
        title=f"added to {done.bundle.path}",
    )
