"""A wrong recipe stops before any work and says where, what was expected, what came, and the nearest name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from deepseek.errors import UnknownNameError
from deepseek.recipe import Recipe, RecipeError, json_schema, load_recipe, read_recipe
from deepseek.recipe.reader import shipped_recipes

ROOT = Path(__file__).parents[2]

GOOD = """
name: mine
task:
  name: text-classification
data:
  source: rows.csv
model:
  base: all-minilm-l6-v2
adapter:
  r: 8
training:
  epochs: 1
"""


def problems(text: str) -> dict[str, str]:
    with pytest.raises(RecipeError) as caught:
        read_recipe(text)
    assert "nothing was started" in str(caught.value)
    return {p.path: f"{p.line}: {p.message}" for p in caught.value.problems}


def test_a_good_recipe() -> None:
    recipe = read_recipe(GOOD)
    assert recipe.adapter is not None
    assert (recipe.adapter.r, recipe.training.epochs, recipe.training.batch_size) == (8, 1, 32)
    assert recipe.build_task().signature.inputs[0].name == "text"


@pytest.mark.parametrize(
    ("old", "new", "path", "parts"),
    [
        ("epochs: 1", "epoch: 1", "training.epoch", ["12:", "unknown key 'epoch'", "did you mean 'epochs'"]),
        ("epochs: 1", "epochs: many", "training.epochs", ["12:", "expected a valid number", "received 'many'"]),
        ("epochs: 1", "epochs: -1", "training.epochs", ["greater than 0", "received -1"]),
        ("epochs: 1", "precision: bf16", "training.precision", ["'auto', 'float32' or 'bfloat16'", "received 'bf16'"]),
        ("epochs: 1", "precision: bfloat61", "training.precision", ["did you mean 'bfloat16'"]),
        ("r: 8", "rank: 8", "adapter.rank", ["10:", "unknown key 'rank'"]),
        ("training:", "trainning:", "trainning", ["11:", "did you mean 'training'"]),
        ("  source: rows.csv", "  sauce: rows.csv", "data.sauce", ["did you mean 'source'"]),
        (
            "name: text-classification",
            "name: text-clasification",
            "task.name",
            ["4:", "Did you mean 'text-classification'"],
        ),
        ("name: text-classification", "name: 7", "task.name", ["expected one of", "text-generation", "received 7"]),
        (
            "name: text-classification",
            "name: text-classification\n  txt: body",
            "task.txt",
            ["5:", "did you mean 'text'"],
        ),
        ("name: mine", "name: ../evil", "name", ["2:", "received '../evil'"]),
        (
            "model:\n  base: all-minilm-l6-v2",
            "model: {}",
            "model",
            ["7:", "expected 'base' (a checkpoint to start from) or 'architecture'", "received neither"],
        ),
    ],
)
def test_each_mistake_is_named(old: str, new: str, path: str, parts: list[str]) -> None:
    assert old in GOOD
    found = problems(GOOD.replace(old, new))
    assert path in found
    for part in parts:
        assert part in found[path]


def test_all_mistakes_are_listed_at_once() -> None:
    text = GOOD.replace("epochs: 1", "epoch: 1").replace("r: 8", "r: 0").replace("source:", "sorce:")
    assert {"training.epoch", "adapter.r", "data.sorce", "data.source"} <= set(problems(text))


@pytest.mark.parametrize(
    ("text", "said"),
    [("a: [1", "not valid YAML"), ("", "received nothing"), ("- a", "received list"), ("7", "received int")],
)
def test_what_is_no_recipe_at_all(text: str, said: str) -> None:
    assert said in problems(text)[""]


def test_objects_in_yaml_are_not_built() -> None:
    assert "not valid YAML" in problems("name: !!python/object/apply:os.system ['true']")[""]


def test_files_that_are_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="quickstart"):
        load_recipe("quikstart")
    (tmp_path / "r.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(RecipeError, match="0xff"):
        load_recipe(tmp_path / "r.yaml")


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_are_valid_and_lie_in_examples_too(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert load_recipe(ROOT / "examples" / "recipes" / f"{name}.yaml") == recipe


def test_a_written_recipe_reads_back_the_same() -> None:
    recipe = load_recipe("quickstart")
    assert read_recipe(yaml.safe_dump(recipe.model_dump(mode="json"))) == recipe


def test_the_schema_describes_what_the_reader_takes() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert set(schema["properties"]) == set(Recipe.model_fields)
    names = [v["properties"]["name"]["const"] for v in schema["properties"]["task"]["oneOf"]]
    assert {"text-classification", "text-generation"} <= set(names)
    committed = json.loads((ROOT / "docs" / "recipe.schema.json").read_text(encoding="utf-8"))
    assert committed == schema, "run: deepseek train --schema > docs/recipe.schema.json"
