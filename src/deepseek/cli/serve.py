"""``deepseek serve``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from deepseek.cli.options import Runtime

if TYPE_CHECKING:
    from pathlib import Path

    from deepseek.serving.model import ServedModel


def command(
    models: Annotated[
        list[str], typer.Argument(help="Bundles, model folders, GGUF files, hub ids or catalogue names.")
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is every interface.")] = "127.0.0.1",
    http_port: Annotated[int, typer.Option(help="REST port; 0 picks a free one.")] = 8000,
    grpc_port: Annotated[int, typer.Option(help="gRPC port; 0 picks a free one.")] = 8001,
    max_batch_size: Annotated[int, typer.Option(help="Most rows that a model sees at once.")] = 32,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    runtime: Runtime = "torch",
    core: Annotated[
        str | None,
        typer.Option(
            help="Generation core of text-generation models (torch, openvino, vllm, auto); default: --runtime."
        ),
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FOLDER: a LoRA adapter of the text-generation model, served under NAME. Repeatable."),
    ] = None,
) -> None:
    """Serve models over REST and gRPC until Ctrl-C.

    Speaks the Open Inference Protocol v2 (KServe and Triton clients) on both ports, plain JSON under /v1/tasks, and
    OpenAI's API under /v1: chat and completions with text-generation models, embeddings with sentence-embedding ones.

    Example:

      deepseek serve runs/quickstart/bundle
    """
    from pydantic import ValidationError

    from deepseek.errors import ConfigError
    from deepseek.progress import console
    from deepseek.serving import Server, ServingConfig

    try:
        config = ServingConfig(host=host, http_port=http_port, grpc_port=grpc_port, max_batch_size=max_batch_size)
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]).replace("_", "-")
        raise ConfigError(f"--{option}: {first['msg']}, received {first['input']!r}") from error
    folders = _adapters(adapter or [])
    served = _load(
        models, device=device, batch_size=max_batch_size, runtime=runtime, core=core or runtime, adapters=folders
    )

    def announce(server: Server) -> None:
        out = console()
        out.print(f"serving {', '.join(m.name for m in served)}; Ctrl-C stops", highlight=False)
        out.print(f"  REST {server.http_url}   (try {server.http_url}/v2/models/{served[0].name})", highlight=False)
        out.print(f"  gRPC {server.grpc_address}", highlight=False)

    Server(config, served).run(on_ready=announce)


def _adapters(given: list[str]) -> dict[str, Path]:
    from pathlib import Path

    from deepseek.errors import ConfigError

    folders: dict[str, Path] = {}
    for each in given:
        name, _, folder = each.partition("=")
        if not name or not folder or name in folders:
            raise ConfigError(f"--adapter: expected NAME=FOLDER, each name once, received {each!r}")
        folders[name] = Path(folder).expanduser()
    return folders


def _load(
    models: list[str], *, device: str, batch_size: int, runtime: str, core: str, adapters: dict[str, Path]
) -> list[ServedModel]:
    """Text-generation models on engines of their own, with their adapters; the others behind a micro-batcher."""
    from deepseek.errors import ConfigError
    from deepseek.inference import Predictor
    from deepseek.inference.opening import opened

    tasks = [opened(model).task.name for model in models]
    if adapters and tasks.count("text-generation") != 1:
        raise ConfigError(
            "--adapter: expected exactly one text-generation model, which the adapters are for, "
            f"received {tasks.count('text-generation')}"
        )
    served: list[ServedModel] = []
    for model, task in zip(models, tasks, strict=True):
        if task != "text-generation":
            served.append(Predictor.load(model, device=device, batch_size=batch_size, runtime=runtime))
            continue
        from deepseek.inference.generation.core import CoreSettings
        from deepseek.serving.generation.generator import ServedGenerator

        settings = CoreSettings(adapters=adapters)
        served.extend(ServedGenerator.load(model, core=core, device=device, settings=settings).family())
    return served
