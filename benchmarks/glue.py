"""The article's claim in full: DeepSeek-Base on GLUE against BERT-base, all nine tasks but WNLI, each by its recipe.

make bench NAME=glue ARGS="--model runs/pretrain-deepseek-base/bundle --workspace w"

For a GPU, with a pre-trained model: `deepseek train pretrain-deepseek-base` makes one. The rows come from the Hugging
Face hub or from the folder in DEEPSEEK_GLUE, the baseline from the hub. Runs of the workspace are not made again.
Scores are those of the validation rows, since the labels of the test rows are secret; a task's score is the mean of its
metrics, as on GLUE's board. WNLI is left out, as in BERT's own paper.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.harness import Figure, say, write_results

LEFT_OUT = "glue-wnli"
BASELINE = "google-bert/bert-base-uncased"
VERSIONS = ("deepseek", "torch", "transformers")


def main() -> None:
    """Fine-tune both on every task, and leave the figures in results/glue.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="the pre-trained DeepSeek-Base: a folder or a hub id")
    parser.add_argument("--baseline", default=BASELINE, help=f"what to compare with (default {BASELINE})")
    parser.add_argument("--tasks", help="some tasks, with commas between, such as glue-rte,glue-cola (default: all)")
    parser.add_argument("--seeds", type=int, default=3, help="fine-tunings of each task (default 3)")
    parser.add_argument("--workspace", type=Path, required=True, help="a folder to keep finished runs in")
    parser.add_argument("--output", type=Path, help="the result file (default: benchmarks/results/glue.json)")
    parser.add_argument(
        "-s", "--set", action="append", default=[], help="a setting of all recipes, as of deepseek train"
    )
    options = parser.parse_args()
    from deepseek.data.datasets.glue_tasks import TASKS

    tasks = options.tasks.split(",") if options.tasks else [name for name in TASKS if name != LEFT_OUT]
    if unknown := [name for name in tasks if name not in TASKS]:
        parser.error(f"unknown task {unknown[0]!r}; expected some of {', '.join(TASKS)}")
    models = {"deepseek-base": options.model, "baseline": options.baseline}
    scores: dict[str, dict[str, list[float]]] = {}
    for task in tasks:
        for kind, model in models.items():
            for seed in range(options.seeds):
                run = options.workspace / f"{kind}-{task}-{seed}"
                found = _score(task, model, seed, run, options.set, TASKS[task].metrics)
                say(f"{task}, {kind}, seed {seed}: {found:.2f}")
                scores.setdefault(task, {}).setdefault(kind, []).append(found)
    figures = {
        task.removeprefix("glue-"): _figure(each["deepseek-base"], each["baseline"], options.baseline, task)
        for task, each in scores.items()
    }
    means = {kind: [statistics.mean(runs) for runs in _by_seed(scores, kind)] for kind in models}
    words = f"mean of {len(tasks)} tasks"
    figures["average"] = _figure(means["deepseek-base"], means["baseline"], options.baseline, words)
    write_results("glue", figures, versions=VERSIONS, peers={}, target=options.output)


def _score(task: str, model: str, seed: int, run: Path, settings: list[str], metrics: tuple[str, ...]) -> float:
    """The mean of a task's metrics in percent; the run is made unless it is there."""
    from deepseek.bundles import Bundle

    if not (run / "bundle").is_dir():
        given = [f"model.base={model}", f"seed={seed}", *settings]
        resume = ["--resume"] if run.is_dir() else []
        command = [str(Path(sys.executable).with_name("deepseek")), "train", task, "--output", str(run), *resume]
        subprocess.run([*command, *(part for each in given for part in ("-s", each))], check=True)
    found = Bundle.open(run / "bundle").manifest.metrics
    return 100 * statistics.mean(found[name] for name in metrics)


def _by_seed(scores: dict[str, dict[str, list[float]]], kind: str) -> list[tuple[float, ...]]:
    return list(zip(*(each[kind] for each in scores.values()), strict=True))


def _figure(ours: list[float], baseline: list[float], name: str, words: str) -> Figure:
    return Figure(
        value=statistics.mean(ours),
        unit="points",
        baseline=statistics.mean(baseline),
        baseline_name=name,
        note=f"bigger is better. {words}, validation rows; seeds {', '.join(f'{x:.2f}' for x in ours)}, baseline "
        f"{', '.join(f'{x:.2f}' for x in baseline)}",
    )


if __name__ == "__main__":
    main()
