"""llama.cpp as a contestant: its own batches of many sequences, whoever runs advancing by a token in every pass.

Runs in an environment of its own, which builds llama.cpp from source (20 minutes on two cores). Its AMX buffers are
switched off, with which the release of these bindings crashes (llama.cpp's issue 20824).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import llama_cpp as api
import numpy as np

from benchmarks.inference_parts import generation_work as work

MOST_ROWS = 64
CONTEXT, BATCH = 64 * 512, 2048
"""Tokens of the cache for all sequences together, and the most of one pass."""


@api.llama_log_callback
def _unheard(*_: Any) -> None:
    """For a thousand lines about the model's file."""


class LlamaCpp:
    """A GGUF file, and the sequences that are being continued.

    Args:
        gguf: the file.
        threads: of the processor.
    """

    def __init__(self, gguf: Path, threads: int) -> None:
        api.llama_log_set(_unheard, None)
        api.llama_backend_init()
        options = api.llama_model_default_params()
        options.n_gpu_layers, options.use_extra_bufts = 0, False
        self._model = api.llama_model_load_from_file(str(gguf).encode(), options)
        settings = api.llama_context_default_params()
        settings.n_ctx, settings.n_batch, settings.n_seq_max, settings.kv_unified = CONTEXT, BATCH, MOST_ROWS, True
        settings.n_threads = settings.n_threads_batch = threads
        self._context = api.llama_init_from_model(self._model, settings)
        self._memory = api.llama_get_memory(self._context)
        self._words = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self._model))
        self._batch = api.llama_batch_init(BATCH, 0, 1)
        self._running: dict[int, tuple[list[int], int, int, list[int]]] = {}

    def add(self, prompt: list[int], new: int) -> list[int]:
        """Start a sequence; its answer grows in the list that is returned."""
        free = next(row for row in range(MOST_ROWS) if row not in self._running)
        answer: list[int] = []
        self._running[free] = (prompt, 0, new, answer)
        return answer

    @property
    def full(self) -> bool:
        """Whether no other sequence can be added."""
        return len(self._running) == MOST_ROWS

    @property
    def busy(self) -> bool:
        """Whether a sequence is being continued."""
        return bool(self._running)

    def step(self) -> None:
        """One pass over every sequence's next tokens, as many as a pass takes."""
        entries: list[tuple[int, int, int, bool]] = []
        chosen = {}
        for row, (tokens, done, _, _) in self._running.items():
            fresh = tokens[done:][: BATCH - len(entries)]
            if fresh:
                ends = done + len(fresh) == len(tokens)
                entries += [(token, done + at, row, ends and at == len(fresh) - 1) for at, token in enumerate(fresh)]
                chosen[row] = (done + len(fresh), len(entries) - 1 if ends else -1)
        self._decode(entries)
        for row, (done, place) in chosen.items():
            tokens, _, new, answer = self._running[row]
            if place >= 0:
                answer.append(int(self._logits(place).argmax()))
                tokens = [*tokens, answer[-1]]
            self._running[row] = (tokens, done, new, answer)
            if len(answer) == new:
                del self._running[row]
                api.llama_memory_seq_rm(self._memory, row, -1, -1)

    def logits(self, ids: list[int]) -> Any:
        """Logits after each token of a text, (tokens, words)."""
        self._decode([(token, at, 0, True) for at, token in enumerate(ids)])
        found = np.stack([self._logits(at).copy() for at in range(len(ids))])
        api.llama_memory_seq_rm(self._memory, 0, -1, -1)
        return found

    def _decode(self, entries: list[tuple[int, int, int, bool]]) -> None:
        batch = self._batch
        batch.n_tokens = len(entries)
        for at, (token, place, row, wanted) in enumerate(entries):
            batch.token[at], batch.pos[at], batch.n_seq_id[at], batch.logits[at] = token, place, 1, wanted
            batch.seq_id[at][0] = row
        if api.llama_decode(self._context, batch):
            raise RuntimeError(f"llama.cpp cannot decode a batch of {len(entries)} tokens")

    def _logits(self, place: int) -> Any:
        return np.ctypeslib.as_array(api.llama_get_logits_ith(self._context, place), shape=(self._words,))


def opened(gguf: Path, threads: int) -> tuple[Any, Any, Any]:
    """Functions that generate, give logits, and answer a trace of requests as they come."""
    engine = LlamaCpp(gguf, threads)

    def generate(prompts: list[list[int]], new: int) -> list[list[int]]:
        answers = [engine.add(prompt, new) for prompt in prompts]
        while engine.busy:
            engine.step()
        return answers

    def trace(requests: list[tuple[float, list[int], int]]) -> tuple[float, list[float]]:
        def add(prompt: list[int], new: int) -> tuple[list[int], int]:
            return engine.add(prompt, new), new

        return work.continuous(requests, add, engine.step, lambda each: len(each[0]) == each[1], lambda: engine.full)

    return generate, engine.logits, trace
