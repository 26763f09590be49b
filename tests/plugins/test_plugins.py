"""Registries and plugin manifests: lazy, checked, and free of surprises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deepseek.errors import ConfigError, UnknownNameError
from deepseek.plugins.manifest import Plugin
from deepseek.plugins.registry import Registry


def test_a_registry_imports_a_part_when_it_is_used() -> None:
    registry: Registry[type] = Registry("thing", {"decimal": "decimal:Decimal", "broken": "no_such_module:X"})
    assert registry.names() == ["broken", "decimal"]
    assert registry.get("decimal").__name__ == "Decimal"
    with pytest.raises(ModuleNotFoundError):
        registry.get("broken")


def test_unknown_names_say_the_nearest() -> None:
    registry: Registry[type] = Registry("thing", {"text-classification": "a:b"})
    with pytest.raises(UnknownNameError, match="Did you mean 'text-classification'"):
        registry.get("text-clasification")


def test_a_name_is_taken_once() -> None:
    registry: Registry[type] = Registry("thing", {})

    @registry.register("mine")
    class Mine:
        pass

    assert registry.get("mine") is Mine
    with pytest.raises(ConfigError, match=r"'mine' is registered already, by .*Mine"):
        registry.register("mine")(Mine)


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ({"name": "p", "contributes": {"tusk": {}}}, "unknown kind 'tusk'"),
        ({"name": "p", "contributes": {"task": {"t": "not a target"}}}, "module:attribute"),
        ({"name": "p", "contributes": ["task"]}, "must be an object"),
    ],
)
def test_wrong_manifests_are_refused(manifest: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Plugin(manifest, "p", "1")


def install(folder: Path) -> None:
    """What pip leaves behind for a plugin package: a module, a manifest, and a dist-info with the entry point."""
    package = folder / "star_plugin"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported at discovery')\n")
    manifest = {"name": "stars", "license": "MIT", "contributes": {"task": {"review-stars": "star_task:ReviewStars"}}}
    (package / "deepseek_plugin.json").write_text(json.dumps(manifest))
    (folder / "star_task.py").write_text(
        "from typing import ClassVar\n"
        "from deepseek.tasks.text_classification import TextClassification\n"
        "class ReviewStars(TextClassification):\n"
        "    name: ClassVar[str] = 'review-stars'\n"
        "    labels: tuple[str, ...] = ('1', '2', '3')\n"
    )
    info = folder / "star_plugin-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: star-plugin\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[deepseek.plugins]\nstars = star_plugin:deepseek_plugin.json\n")


def test_an_installed_plugin_is_found_without_being_imported(tmp_path: Path) -> None:
    install(tmp_path)
    code = (
        "from deepseek.plugins import discover\n"
        "from deepseek.tasks import TASKS\n"
        "plugin, = discover()\n"
        "print(plugin.name, plugin.version, 'review-stars' in TASKS)\n"
        "print(TASKS.get('review-stars')().labels)\n"
        "from deepseek.recipe import read_recipe\n"
        "r = read_recipe('name: x\\ntask: {name: review-stars}\\ndata: {source: a.csv}\\nmodel: {base: b}\\n')\n"
        "print(type(r.build_task()).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
    )
    assert done.stdout.splitlines() == ["stars 2.0 True", "('1', '2', '3')", "ReviewStars"], done.stderr
