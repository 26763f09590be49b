"""``deepseek bench``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from deepseek.inference.hardware import HardwarePeaks

app = typer.Typer(
    help="Measure what this machine can do: a yardstick for every model that runs on it.\n\n"
    "Start with [bold]deepseek bench hardware[/].",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@app.callback()
def group() -> None:
    """Keeps ``bench`` a group although it has one command."""


@app.command()
def hardware(
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps. AMD's GPUs are cuda too.")] = "auto",
    seconds: Annotated[
        float, typer.Option(help="About how long it may take, besides making the arrays; more is more exact.")
    ] = 20.0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure what a device does at most: operations a second per precision, and bytes a second through its memory.

    The two are the yardsticks of a model's speed: work that multiplies large matrices (training, long prompts, large
    batches) can come near the TFLOP/s of its precision; work that reads every weight for little arithmetic (generating
    text for one person) can come near the GB/s. TFLOP/s are 10^12 operations a second, where multiplying and adding
    are two; GB/s are 10^9 bytes a second. "emulated" marks a precision that the device has no units for and that is
    slower than float32: store weights in it to save memory, not to save time.

    Run it while the machine does nothing else. A CPU is measured with as many threads as PyTorch uses;
    OMP_NUM_THREADS=1 before the command measures one. What was measured is kept in the cache folder, for this device,
    these threads and this PyTorch.

    Examples:

      deepseek bench hardware

      deepseek bench hardware --device cuda:1 --seconds 60

      deepseek bench hardware --seconds 1 --json
    """
    from deepseek.cli.output import print_json_line, print_table
    from deepseek.inference.hardware import keep, measure

    found = keep(measure(device, seconds=seconds))
    if json:
        print_json_line(found.model_dump(mode="json"))
    else:
        print_table(("what", "at most", "", "of float32", "reached with", ""), _rows(found), title=_title(found))


def _title(found: HardwarePeaks) -> str:
    threads = f", {found.threads} thread{'s' if found.threads != 1 else ''}" if found.threads else ""
    runtime = f", {found.runtime}" if found.runtime else ""
    return f"{found.name} ({found.device}{threads}), PyTorch {found.torch}{runtime}, {found.measured:%Y-%m-%d}"


def _rows(found: HardwarePeaks) -> list[tuple[str, str, str, str, str, str]]:
    float32 = found.products.get("float32")
    rows = []
    for precision, peak in found.products.items():
        share = f"{peak.tflops / float32.tflops:.2f}x" if float32 else ""
        product = f"{peak.operation}, {' x '.join(f'{n}' for n in peak.shape)}"
        mark = "emulated: slower than float32" if peak.emulated else ""
        rows.append((f"{precision} product", f"{peak.tflops:,.4g}", "TFLOP/s", share, product, mark))
    for precision, why in found.missing.items():
        rows.append((f"{precision} product", "--", "", "", "", f"not here: {why}"))
    for kind, speed in found.bandwidth.items():
        arrays = f"{speed.operation}, arrays of {speed.array_bytes / 1e6:,.0f} MB"
        rows.append((f"memory {kind}", f"{speed.gb_per_second:,.4g}", "GB/s", "", arrays, ""))
    return rows
