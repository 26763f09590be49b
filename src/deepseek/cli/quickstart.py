"""``deepseek quickstart``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from deepseek.quickstart import Call

SENTENCES = (
    "A quiet, luminous film that trusts its audience.",
    "A tedious, overlong mess without a single laugh.",
    "The plot creaks, but the two leads are a joy to watch.",
)


def command(
    once: Annotated[
        bool, typer.Option("--once", help="Stop after the report instead of serving until Ctrl-C.")
    ] = False,
    output: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/quickstart"),
    http_port: Annotated[
        int | None, typer.Option(help="REST port; 0 picks a free one. Default: the recipe's, 8000.")
    ] = None,
    grpc_port: Annotated[
        int | None, typer.Option(help="gRPC port; 0 picks a free one. Default: the recipe's, 8001.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="Another recipe of the same form.")] = "quickstart",
    results: Annotated[Path | None, typer.Option(help="Also write the figures to this JSON file.")] = None,
) -> None:
    """Fetch real sentences and a real encoder, clean, fine-tune with LoRA, compare, save, serve, call, report.

    Takes about a minute and a half on two cores. Afterwards the model is served until Ctrl-C; open another terminal and
    use the curl line that the report prints.
    """
    import time

    from deepseek.cli.run_report import print_run
    from deepseek.inference import Predictor
    from deepseek.quickstart import call_grpc, call_rest, write_results
    from deepseek.recipe import load_recipe, run_recipe
    from deepseek.serving import Server

    started = time.monotonic()
    loaded = load_recipe(recipe)
    updates = {k: v for k, v in (("http_port", http_port), ("grpc_port", grpc_port)) if v is not None}
    config = loaded.serving.model_copy(update=updates)
    result = run_recipe(loaded, output)
    fetching = sum(s.seconds for s in result.steps.steps if s.name.startswith("fetch"))
    with result.steps.step("serve and call") as step:
        predictor = Predictor.load(result.bundle.path)
        server = Server(config, [predictor])
        server.start()
        calls = call_rest(server.http_url, predictor.name, SENTENCES) + call_grpc(
            server.grpc_address, predictor.name, SENTENCES
        )
        step.note = f"{len(calls)} answers through two protocols"
    try:
        wall = time.monotonic() - started - fetching
        print_run(result)
        _print_calls(calls, server.http_url, server.grpc_address, predictor.name)
        if results is not None:
            write_results(results, result, wall_seconds=wall, command="make quickstart ARGS=--once")
        if once:
            return
        typer.echo("\nServing until Ctrl-C.")
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            typer.echo("\nstopping")
    finally:
        server.stop()


def _print_calls(calls: list[Call], http_url: str, grpc_address: str, model: str) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    console.print("\n[bold]answers[/]    as a client got them")
    for call in calls:
        console.print(f"  {call.protocol}  {call.label:<9}{call.score:.2f}  {escape(call.text)}")
    console.print(f"\n[bold]REST[/]       {http_url}   (what it takes: {http_url}/openapi.json)", soft_wrap=True)
    console.print(f"[bold]gRPC[/]       {grpc_address}   (Open Inference Protocol v2, reflection on)", soft_wrap=True)
    body = f'{{"model": "{model}", "inputs": ["An instant classic."]}}'
    console.print(
        f"[bold]try it[/]     curl -s {http_url}/v1/tasks/text-classification -H 'content-type: application/json' "
        f"-d '{escape(body)}'",
        soft_wrap=True,
    )
