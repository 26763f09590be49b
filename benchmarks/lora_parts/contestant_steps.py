"""One contestant's run in a process of its own."""

from __future__ import annotations

from typing import Any

from benchmarks.lora_parts import contestants
from benchmarks.lora_parts.contestants import Job
from benchmarks.lora_parts.watch import Watch
from benchmarks.worker import Clock, serve

CONTESTANTS = {
    "full fp32": contestants.full,
    "full bf16": lambda job, model, tokenizer, watch: contestants.full(job, model, tokenizer, watch, bf16=True),
    "plain PEFT fp32": contestants.plain_peft,
    "plain PEFT bf16": lambda job, model, tokenizer, watch: contestants.plain_peft(
        job, model, tokenizer, watch, bf16=True
    ),
    "ours": contestants.ours,
}


def train(clock: Clock, *, contestant: str, every: int | None = None, **job: Any) -> dict[str, Any]:
    """Load the base, train it, then score the copies of its weights that were taken every ``every`` steps."""
    given = Job(**job)
    task, model, tokenizer, parameters = _load(given, ours=contestant == "ours")
    with Watch(every) as watch, clock:
        settings = CONTESTANTS[contestant](given, model, tokenizer, watch)
    trained = watch.model
    points = []
    if every and given.test:
        rows = contestants.rows_of(given.test)
        weights = dict(trained.named_parameters())
        for seconds, copies in watch.copies:
            for name, value in copies.items():
                weights[name].data.copy_(value)
            points.append((seconds, contestants.scored(task, trained, tokenizer, rows)))
    return {
        "contestant": contestant,
        "trainable": sum(p.numel() for p in trained.parameters() if p.requires_grad),
        "parameters": parameters,
        "steps": watch.steps,
        "seconds": watch.seconds,
        "before_s": watch.before_s,
        "step_s": watch.step_s,
        "mean_step_s": watch.mean_step_s,
        "device_mb": watch.device_mb,
        "points": points,
        "settings": settings,
    }


def tensor_peak(clock: Clock, *, contestant: str, **job: Any) -> float:
    """The most memory in tensors at once during a few steps, in MB; the first step, which makes states, is left out."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    from benchmarks.lora_parts.tensors import TensorPeak

    given = Job(**job)
    _, model, tokenizer, _ = _load(given, ours=contestant == "ours")
    watch = Watch()
    with watch, TensorPeak() as peak, clock:
        hook = register_optimizer_step_post_hook(lambda *_: peak.restart() if watch.steps == 1 else None)
        CONTESTANTS[contestant](given, model, tokenizer, watch)
        hook.remove()
    return float(peak.peak_mb)


def load(clock: Clock, *, base: str) -> None:
    """What every contestant's process holds before it reads a weight: the libraries, and a model of mapped weights."""
    from peft import LoraConfig  # noqa: F401
    from transformers import AutoModelForSequenceClassification, Trainer  # noqa: F401

    with clock:
        AutoModelForSequenceClassification.from_pretrained(base, dtype="float32")


def _load(job: Job, *, ours: bool) -> tuple[Any, Any, Any, int]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, set_seed

    from deepseek.models import from_pretrained, resolve

    task = contestants.task_of(job)
    path = resolve(job.base).path
    set_seed(job.seed)
    if ours:
        model = from_pretrained(path, head=type(task).head, **task.model_options())
    else:
        model = AutoModelForSequenceClassification.from_pretrained(path, dtype="float32", **task.model_options())
    return task, model, AutoTokenizer.from_pretrained(path), sum(p.numel() for p in model.parameters())


if __name__ == "__main__":
    serve(train, tensor_peak, load)
