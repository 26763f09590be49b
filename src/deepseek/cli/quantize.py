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
    runtime: Annotated[
        str, typer.Option(help="Whose copy it is: openvino, onnxruntime, native, or auto: of all that work here.")
    ] = "auto",
    dtype: Annotated[
        str, typer.Option(help="int8, or int4: weights alone, half as large and slower (openvino).")
    ] = "int8",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make quantised copies of a bundle's model, and add those to the bundle that answer as well.

    In int8, weights and activations become 8-bit integers: a quarter of the size, and several times faster on
    processors with units for them (AVX-512 VNNI, AMX). Some rows calibrate the ranges of activations; all others are
    scored, with the plain model and with each copy. Runtimes differ in what they are fast at, so each that works here
    has a copy: OpenVINO, ONNX Runtime (which finds the ranges of activations anew in each pass) and, for BERT's family
    on processors with AVX-512 VNNI or AMX, `native`. `--runtime auto` of the other commands considers the copies from
    then on; `deepseek explain` shows how fast they are. Take rows that the model did not learn from.

    Example:

      deepseek quantize runs/quickstart/bundle runs/quickstart/clean.lance --split test
    """
    from deepseek.cli.output import print_json_line, print_table, print_text
    from deepseek.cli.rows import of_split, rows_of
    from deepseek.inference import quantize

    rows = list(rows_of(data, where=of_split(split)))
    done = quantize(bundle, rows, runtime=runtime, dtype=dtype, max_drop=max_drop, calibration=calibration)
    folders = {name: done.bundle.path / done.bundle.manifest.compiled[f"{name}-{dtype}"].folder for name in done.copies}
    sizes = {name: sum(file.stat().st_size for file in folder.iterdir()) for name, folder in folders.items()}
    whole = sum(r.size for name, r in done.bundle.manifest.files.items() if _is_weights(name))
    if json:
        copies = [
            {"runtime": name, **copy.record.model_dump(mode="json"), "drop": copy.drop, "folder": str(folders[name]),
             "bytes": sizes[name]}
            for name, copy in done.copies.items()
        ]  # fmt: skip
        print_json_line({"copies": copies, "refused": done.refused})
        return
    first = next(iter(done.copies.values())).record
    print_table(
        ("", f"{first.metric}, {first.rows:,} rows", "size"),
        [
            ("torch float32", f"{first.reference:.4f}", f"{whole / 1e6:,.1f} MB"),
            *(
                (f"{name} {dtype}", f"{copy.record.value:.4f}", f"{sizes[name] / 1e6:,.1f} MB")
                for name, copy in done.copies.items()
            ),
        ],
        title=f"added to {done.bundle.path}",
    )
    for name, reason in done.refused.items():
        print_text(f"no copy for {name}: {reason}")


def _is_weights(name: str) -> bool:
    """Whether a bundle's file has the plain model's weights; copies are in folders."""
    return name.endswith(".safetensors") and "/" not in name
