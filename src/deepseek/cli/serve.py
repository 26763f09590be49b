"""``deepseek serve``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deepseek.cli.options import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepseek.serving import Server, ServingConfig
    from deepseek.serving.models.sources import NamedSource


def command(
    models: Annotated[
        list[str] | None, typer.Argument(help="Bundles, model folders, GGUF files, hub ids or catalogue names.")
    ] = None,
    repository: Annotated[
        Path | None, typer.Option(help="A folder of models; all of them are served, under their names there.")
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on (127.0.0.1); 0.0.0.0 is every interface, and needs keys.")
    ] = None,
    http_port: Annotated[int | None, typer.Option(help="REST port (8000); 0 picks a free one.")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="gRPC port (8001); 0 picks a free one.")] = None,
    max_batch_size: Annotated[int | None, typer.Option(help="Most rows that a model sees at once (32).")] = None,
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
    workers: Annotated[
        int | None, typer.Option(help="Processes for each model, which are replaced when they die (0: threads).")
    ] = None,
    keys: Annotated[
        str | None, typer.Option(help="Whether requests need a key: auto (not on loopback), off, required.")
    ] = None,
    model_control: Annotated[
        bool, typer.Option("--model-control", help="Let clients load, reload and unload models.")
    ] = False,
    reload: Annotated[
        bool,
        typer.Option("--reload", help="For development: load changed models again, restart when Python code changes."),
    ] = False,
    reload_dir: Annotated[
        list[Path] | None,
        typer.Option(help="Folder whose Python files --reload watches (this one). Repeatable."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file with any of the server's settings; options here go before it.")
    ] = None,
) -> None:
    """Serve models over REST and gRPC until Ctrl-C.

    Speaks the Open Inference Protocol v2 (KServe and Triton clients) on both ports, plain JSON under /v1/tasks, and
    OpenAI's API under /v1: chat and completions with text-generation models, embeddings with sentence-embedding ones.
    Prometheus metrics are at /metrics.

    Example:

      deepseek serve runs/quickstart/bundle

      deepseek serve --repository models --host 0.0.0.0      (make keys with: deepseek keys create)
    """
    from deepseek.errors import ConfigError
    from deepseek.inference.opening import opened
    from deepseek.progress import console
    from deepseek.serving import Server
    from deepseek.serving.models.loading import ModelLoader
    from deepseek.serving.models.sources import NamedSource, sources_in

    given = {"host": host, "http_port": http_port, "grpc_port": grpc_port, "max_batch_size": max_batch_size}
    settings = _settings(config, given, keys, model_control, workers)
    if not models and repository is None:
        raise ConfigError("expected models to serve, or --repository with a folder of them")
    loader = ModelLoader(
        device=device,
        runtime=runtime,
        core=core or runtime,
        batch_size=settings.max_batch_size,
        adapters=_adapters(adapter or []),
    )
    loader.check(models or [])
    sources = [NamedSource(opened(model).name, model, loader) for model in models or []]
    sources += sources_in(repository, loader) if repository is not None else []

    def announce(server: Server) -> None:
        out = console()
        names = server.repository.names
        out.print(f"serving {', '.join(names)}; Ctrl-C stops", highlight=False)
        out.print(f"  REST {server.http_url}   (try {server.http_url}/v2/models/{names[0]})", highlight=False)
        out.print(f"  gRPC {server.grpc_address}", highlight=False)
        if server.console_url is not None:
            out.print(f"  console {server.console_url}", highlight=False)
        if server.config.access.applies_to(server.config.host):
            place = "" if config is None else f" --config {shlex.quote(str(config))}"
            out.print(f"  keys are needed: deepseek keys create NAME{place}", highlight=False, soft_wrap=True)
        if server.admin_url is not None:
            out.print(f"  keys and usage {server.admin_url}", highlight=False)

    if not reload:
        names = [source.name for source in sources]
        Server(settings, sources=sources, load=names).run(on_ready=announce)
    elif _run_reloading(settings, sources, reload_dir or [Path.cwd()], announce):
        _start_again()


def _settings(
    file: Path | None, given: dict[str, Any], keys: str | None, model_control: bool, workers: int | None = None
) -> ServingConfig:
    """The server's settings: those of the file, and over them the options that were given."""
    import yaml
    from pydantic import ValidationError

    from deepseek.errors import ConfigError
    from deepseek.serving import ServingConfig

    told: dict[str, Any] = {}
    if file is not None:
        try:
            told = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f"--config: {file} cannot be read: {error}") from error
        if not isinstance(told, dict):
            raise ConfigError(f"--config: expected settings by name in {file}, received {type(told).__name__}")
    told |= {name: value for name, value in given.items() if value is not None}
    if keys is not None:
        told["access"] = {**(told.get("access") or {}), "mode": keys}
    if workers is not None:
        told["workers"] = {**(told.get("workers") or {}), "workers": workers}
    if model_control:
        told["model_control"] = True
    try:
        return ServingConfig.model_validate(told)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        place = f"--{name.replace('_', '-')}" if given.get(name) is not None else f"setting {name}"
        raise ConfigError(f"{place}: {first['msg']}, received {first['input']!r}") from error


def _adapters(given: list[str]) -> dict[str, Path]:
    from deepseek.errors import ConfigError

    folders: dict[str, Path] = {}
    for each in given:
        name, _, folder = each.partition("=")
        if not name or not folder or name in folders:
            raise ConfigError(f"--adapter: expected NAME=FOLDER, each name once, received {each!r}")
        folders[name] = Path(folder).expanduser()
    return folders


def _run_reloading(
    settings: ServingConfig, sources: list[NamedSource], code: list[Path], announce: Callable[[Server], None]
) -> bool:
    """Serve until Ctrl-C or until code has changed; whether it has."""
    from deepseek.serving import Server
    from deepseek.serving.models.reload import Reloader

    changed: list[bool] = []

    def code_changed() -> None:
        changed.append(True)
        server.request_stop()

    paths = {source.name: source.path for source in sources if source.path is not None}
    reloader = Reloader(paths, code, code_changed)
    names = [source.name for source in sources]
    server = Server(settings, sources=sources, load=names, beside=[reloader.run])
    server.run(on_ready=announce)
    return bool(changed)


def _start_again() -> None:
    """Replace this process by one with the same command line, which has the new code."""
    import os
    import sys

    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  our own command line, no shell
