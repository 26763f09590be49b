"""Models that are loaded again when their files change, code that asks for a restart, and folders of models."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from serving_fakes import CONFIG, FakeClassifier

from deepseek.errors import BundleError, ConfigError
from deepseek.serving import Server
from deepseek.serving.models.reload import Reloader
from deepseek.serving.models.sources import NamedSource, sources_in
from deepseek.serving.workers import LoaderSpec


def write_model(folder: Path, version: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"version": version}), encoding="utf-8")
    return folder


def load(model: str, name: str) -> FakeClassifier:
    try:
        told = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{model} is damaged: {error}") from error
    return FakeClassifier(name, told["version"])


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_changed_model_is_loaded_again_and_a_damaged_one_is_not(tmp_path: Path) -> None:
    source = NamedSource("sentiment", str(write_model(tmp_path / "models" / "sentiment", "1")), load)
    restarts = threading.Event()
    code = tmp_path / "app"
    code.mkdir()
    reloader = Reloader({"sentiment": Path(source.model)}, [code], restarts.set)
    server = Server(CONFIG, sources=[source], load=["sentiment"], beside=[reloader.run])
    with server, httpx.Client(base_url=server.http_url) as http:

        def versions() -> list[str]:
            return list(http.get("/v2/models/sentiment").json()["versions"])

        def failed() -> bool:
            return bool(server.repository.failure("sentiment"))

        assert versions() == ["1"]
        time.sleep(0.3)  # the watch begins beside the server's start
        write_model(Path(source.model), "2")
        until(lambda: versions() == ["2"])
        (Path(source.model) / "config.json").write_text('{"vers', encoding="utf-8")
        until(failed)
        assert versions() == ["2"]
        Path(source.model).rename(tmp_path / "models" / "old")
        write_model(tmp_path / "models" / "new", "3").rename(source.model)
        until(lambda: versions() == ["3"])
        assert not restarts.is_set()
        (code / "notes.txt").write_text("no code", encoding="utf-8")
        (code / "app.py").write_text("x = 1", encoding="utf-8")
        assert restarts.wait(30)


def test_the_newest_version_of_a_folder_of_versions_is_served(tmp_path: Path) -> None:
    for version in ("9", "10"):
        write_model(tmp_path / "many" / version, f"inside {version}")
    write_model(tmp_path / "one", "7")
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    (tmp_path / "notes").mkdir()
    sources = {source.name: source for source in sources_in(tmp_path, load)}
    assert set(sources) == {"many", "one", "tiny"}
    many = sources["many"].load()
    assert (many.name, many.version, many.task) == ("many", "10", "text-classification")
    assert many.predict([{"text": "a"}])[0]["label"] == "A"
    assert sources["one"].load().version == "7"


def test_workers_load_the_newest_version_too(tmp_path: Path) -> None:
    class Loader:
        def __call__(self, model: str, name: str) -> FakeClassifier:
            raise AssertionError("it is loaded in worker processes")

        def spec(self, model: str, name: str, version: str | None = None) -> LoaderSpec:
            return LoaderSpec(function="a:b", arguments={"model": model, "name": name, "version": version})

    for version in ("9", "10"):
        write_model(tmp_path / "many" / version, version)
    write_model(tmp_path / "one", "7")
    told = {source.name: source.spec() for source in sources_in(tmp_path, Loader())}
    assert all(spec is not None for spec in told.values())
    assert {name: spec.arguments for name, spec in told.items() if spec is not None} == {
        "many": {"model": str(tmp_path / "many" / "10"), "name": "many", "version": "10"},
        "one": {"model": str(tmp_path / "one"), "name": "one", "version": None},
    }


def test_folders_without_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is none at"):
        sources_in(tmp_path / "nowhere", load)
    with pytest.raises(ConfigError, match="holds no models"):
        sources_in(tmp_path, load)


def test_a_server_whose_model_cannot_be_loaded_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    server = Server(CONFIG, sources=[NamedSource("broken", str(tmp_path), load)], load=["broken"])
    with pytest.raises(BundleError, match="is damaged"):
        server.start()
