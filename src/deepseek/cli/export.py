"""``deepseek export``."""

from __future__ import annotations

from typing import Annotated

import typer


def command(
    model: Annotated[str, typer.Argument(help="A bundle, a model folder, a GGUF file, a hub id or a catalogue name.")],
    to: Annotated[str, typer.Option(help="openvino, onnx, executorch, torch-export, gguf, or a plugin's.")],
    output: Annotated[str, typer.Option(help="The folder to write; exports/MODEL-FORMAT-DTYPE if left out.")] = "",
    dtype: Annotated[
        str, typer.Option(help="float32 (the default), float16, bfloat16, int8 or q8_0: what the format has.")
    ] = "auto",
    task: Annotated[str, typer.Option(help="What the model is for, if it does not say so itself.")] = "",
    max_error: Annotated[
        float | None, typer.Option(min=0, help="How far outputs may be off: norm of difference by norm, 0.01 is 1%.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write a model in another tool's format, and see that it is still the same model.

    openvino, onnx, executorch (for phones and other small devices): encoders and classifiers. torch-export: these and
    language models, as logits of whole sequences. gguf: language models of the Llama, Mistral, Qwen2 and Qwen3
    families. The files are run beside PyTorch in float32 on batches of several shapes; "off by" is the norm of the
    difference by the norm, "same answers" the share of equal highest logits. Tokenizer, configuration and the figures
    (export.json) lie beside the model.

    Examples:

      deepseek export runs/quickstart/bundle --to onnx --dtype int8

      deepseek export smollm2-135m-instruct --to gguf --dtype q8_0 --output smollm
    """
    from deepseek.cli.output import print_json_line, print_table
    from deepseek.inference.exporting import export
    from deepseek.progress import console

    folder, report = export(
        model, to, output=output or None, dtype=dtype, task=task or None, max_error=max_error, force=force
    )
    if json:
        print_json_line({**report.model_dump(mode="json"), "folder": str(folder)})
        return
    print_table(report.header(), report.rows(), title=f"written to {folder}")
    for note in report.notes:
        console().print(f"  {note}", style="yellow", highlight=False, markup=False)
