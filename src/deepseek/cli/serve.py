"""``deepseek serve``."""

from __future__ import annotations

from typing import Annotated

import typer

from deepseek.cli.options import Runtime


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
) -> None:
    """Serve models over REST and gRPC until Ctrl-C.

    Speaks the Open Inference Protocol v2 (KServe and Triton clients) on both ports and plain JSON under /v1/tasks.

    Example:

      deepseek serve runs/quickstart/bundle
    """
    from pydantic import ValidationError

    from deepseek.errors import ConfigError
    from deepseek.inference import Predictor
    from deepseek.progress import console
    from deepseek.serving import Server, ServingConfig

    try:
        config = ServingConfig(host=host, http_port=http_port, grpc_port=grpc_port, max_batch_size=max_batch_size)
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]).replace("_", "-")
        raise ConfigError(f"--{option}: {first['msg']}, received {first['input']!r}") from error
    predictors = [Predictor.load(model, device=device, batch_size=max_batch_size, runtime=runtime) for model in models]

    def announce(server: Server) -> None:
        out = console()
        out.print(f"serving {', '.join(p.name for p in predictors)}; Ctrl-C stops", highlight=False)
        out.print(f"  REST {server.http_url}   (try {server.http_url}/v2/models/{predictors[0].name})", highlight=False)
        out.print(f"  gRPC {server.grpc_address}", highlight=False)

    Server(config, predictors).run(on_ready=announce)
