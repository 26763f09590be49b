"""A checkpoint in, a DeepSeek-Base model out."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.artifacts.cache import staged_directory
from deepseek.errors import ConfigError
from deepseek.models.checkpoint import Checkpoint, resolve
from deepseek.models.conversion.report import FILE, ConversionReport
from deepseek.models.loading import quiet_transformers, tokenizer_for

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from deepseek.models.conversion.fitting import FittingConfig


@dataclass(frozen=True)
class Conversion:
    """A converted model in memory.

    Attributes:
        model: in evaluation mode, with the head of the report.
        tokenizer: the checkpoint's, for longer texts.
        report: what was done, and how near the model is to the checkpoint.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    report: ConversionReport

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write a folder that ``from_pretrained``, training and transformers open; it appears when it is complete.

        Raises:
            ConfigError: the folder is there already, and ``overwrite`` is false.
        """
        target = _free(folder, overwrite)
        with quiet_transformers(), staged_directory(target, replace=overwrite) as stage:
            self.model.save_pretrained(stage)
            self.tokenizer.save_pretrained(stage)
            (stage / FILE).write_text(self.report.json(), encoding="utf-8")


def convert(
    name_or_path: str | os.PathLike[str] | Checkpoint,
    target_folder: str | os.PathLike[str],
    *,
    head: str | None = None,
    texts: Iterable[str] | None = None,
    fitting: FittingConfig | None = None,
    seed: int = 0,
    overwrite: bool = False,
    **config: Any,
) -> ConversionReport:
    """Convert a BERT, RoBERTa or MiniLM checkpoint into a DeepSeek-Base folder; see :func:`convert_model`.

    The folder has the weights, the tokenizer and ``conversion.json``, the report that is returned.

    Raises:
        ConfigError: the folder is there already, and ``overwrite`` is false.
    """
    _free(target_folder, overwrite)  # before the work
    done = convert_model(name_or_path, head=head, texts=texts, fitting=fitting, seed=seed, **config)
    done.save(target_folder, overwrite=overwrite)
    return done.report


def convert_model(
    name_or_path: str | os.PathLike[str] | Checkpoint,
    *,
    head: str | None = None,
    texts: Iterable[str] | None = None,
    fitting: FittingConfig | None = None,
    seed: int = 0,
    **config: Any,
) -> Conversion:
    """Convert a BERT, RoBERTa or MiniLM checkpoint: weights carried over, positions fitted to the old ones.

    Takes a few minutes on two cores for MiniLM, ten times as long for BERT-base.

    Args:
        name_or_path: see :func:`deepseek.models.resolve`.
        head: ``"none"``, ``"masked-lm"`` or ``"token-classification"``, which are carried over; or
            ``"sequence-classification"``, whose head has another form and is made anew, with the labels kept. ``None``
            for the one that the checkpoint was saved with.
        texts: texts of the language and kind that the model is for, to fit positions on; some hundred of a page each
            are enough, and no more are read. ``None`` for English posts, news and film reviews.
        fitting: how much is spent on fitting.
        seed: equal seeds give equal models.
        config: fields of :class:`~deepseek.models.deepseek_base.DeepSeekBaseConfig` that the checkpoint does not
            settle, such as ``rotary_dim=16`` or ``block_width=32``.

    Raises:
        ConfigError: the checkpoint is of another architecture (decoders, cross attention and relative positions among
            them), lacks the head, or a field of the config is settled by it.
        DataError: there are too few texts.
        UnknownNameError, FetchError: see :func:`deepseek.models.resolve`.
    """
    started = time.monotonic()
    checkpoint = name_or_path if isinstance(name_or_path, Checkpoint) else resolve(name_or_path)
    from deepseek.models.conversion.fitting import FittingConfig, PositionFitting
    from deepseek.models.conversion.mapping import backbone_of, carry_over, config_for, new_parameters
    from deepseek.models.conversion.measuring import Measuring
    from deepseek.models.conversion.positions import fold_positions
    from deepseek.models.conversion.source import open_source
    from deepseek.models.conversion.texts import TextPool, default_texts

    plan = fitting or FittingConfig()
    source = open_source(checkpoint, head)
    model = carry_over(source, config_for(source, **config), seed=seed)
    tokenizer = tokenizer_for(checkpoint)
    longest = len(source.positions)
    pool = TextPool(default_texts() if texts is None else texts, tokenizer, tokens=plan.read_tokens, longest=longest)
    measuring = Measuring(source, pool, tokenizer.mask_token_id, seed)
    dropped = measuring.closeness(model, "compare, positions left out")
    lengths = [longest // part for part in (8, 4, 2, 1)]
    steps = max(plan.layer_steps, plan.joint_steps)
    windows = {n: pool.windows(pool.fitted, n, plan.windows(steps, len(lengths), n), seed) for n in lengths}
    fold_positions(model, source.positions, first_token=pool.first_token, lengths=lengths)
    PositionFitting(source.backbone, backbone_of(model), windows, plan, seed=seed).run()
    tokenizer.model_max_length = model.config.max_position_embeddings
    report = ConversionReport(
        source=checkpoint.name,
        family=source.family,
        head=source.head,
        parameters=model.num_parameters(),
        new_parameters=new_parameters(backbone_of(model)),
        left_out=tuple(source.left_out()),
        fresh_modules=("head", "classifier") if source.head == "sequence-classification" else (),
        moved_biases=plan.biases and plan.joint_steps > 0,
        seed=seed,
        fitting=asdict(plan),
        dropped=dropped,
        fitted=measuring.closeness(model, "compare, positions fitted"),
        long=measuring.long(backbone_of(model)),
        seconds=round(time.monotonic() - started, 1),
    )
    return Conversion(model, tokenizer, report)


def _free(folder: str | os.PathLike[str], overwrite: bool) -> Path:
    target = Path(folder).expanduser()
    if target.exists() and not overwrite:
        raise ConfigError(f"{target} exists already: expected a new folder, or overwrite=True")
    return target
