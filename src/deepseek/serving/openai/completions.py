"""``POST /v1/completions``: plain prompts, without a chat template."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import UNSET

from deepseek.inference.generation import stream
from deepseek.inference.generation.stream import Piece
from deepseek.serving.generation.batching import GenerationBatcher
from deepseek.serving.generation.host import Ask
from deepseek.serving.models.loaded_model import LoadedModel
from deepseek.serving.openai.errors import ParameterError
from deepseek.serving.openai.generating import GeneratingRoute, Rendering, finished
from deepseek.serving.openai.logprobs import completion_logprobs
from deepseek.serving.openai.messages import prompts_of
from deepseek.serving.openai.requests import DEFAULT_COMPLETION_TOKENS, CompletionRequest, Generation, decode
from deepseek.serving.openai.responses import Completion, CompletionChoice, CompletionLogprobs, Usage
from deepseek.serving.openai.sampling import plan_of

_decoder = msgspec.json.Decoder(CompletionRequest)


class CompletionRoute(GeneratingRoute):
    """Continues prompts."""

    operation = "text_completion"

    def decoded(self, body: bytes) -> Generation:
        return decode(_decoder, body)

    def rendering(self, request: Generation, loaded: LoadedModel, batcher: GenerationBatcher) -> Rendering:
        assert isinstance(request, CompletionRequest)
        return _CompletionRendering(request, loaded, batcher)


class _CompletionRendering(Rendering):
    prefix = "cmpl"

    def __init__(self, request: CompletionRequest, loaded: LoadedModel, batcher: GenerationBatcher) -> None:
        super().__init__(request, loaded, batcher)
        if request.echo and request.logprobs is not None:
            raise ParameterError(
                "'echo' with 'logprobs' is not supported: only the answer's tokens have log-probabilities",
                "logprobs",
                "unsupported_parameter",
            )
        prompts = prompts_of(request.prompt)
        plan = plan_of(
            request,
            context=batcher.generator.context_length,
            max_tokens=DEFAULT_COMPLETION_TOKENS if request.max_tokens is None else request.max_tokens,
            limit_name="max_tokens",
            logprobs=request.logprobs,
        )
        self._count = request.n or 1
        self._asks = [Ask(prompt, self._count, plan) for prompt in prompts]
        self._logprobs = request.logprobs is not None
        self._echoed: list[str] = []
        if request.echo:
            decoded = batcher.generator.host.engine.tokenizer.decode
            self._echoed = [p if isinstance(p, str) else str(decoded(p)) for p in prompts]
        self._lengths: dict[int, int] = {}
        """Characters of the tokens that a stream has told, by answer."""

    @property
    def asks(self) -> Sequence[Ask]:
        return self._asks

    def events(self, news: Iterable[tuple[int, Piece]]) -> list[msgspec.Struct]:
        events: list[msgspec.Struct] = []
        for index, piece in news:
            before = self._lengths.get(index)
            text = (self._echo(index) if before is None else "") + piece.text
            logprobs = self._told(piece, before or 0) if self._logprobs else None
            self._lengths[index] = (before or 0) + (sum(map(len, logprobs.tokens)) if logprobs else 0)
            if text or (logprobs and logprobs.tokens) or piece.finish_reason:
                choice = CompletionChoice(index, text, logprobs, finished(piece.finish_reason))
                events.append(self._answer([choice]))
        return events

    def usage(self, usage: Usage) -> msgspec.Struct:
        return self._answer([], usage)

    def whole(self, completions: Sequence[stream.Completion], usage: Usage) -> msgspec.Struct:
        choices = [
            CompletionChoice(
                index,
                self._echo(index) + each.text,
                self._told(each, 0) if self._logprobs else None,
                finished(each.finish_reason),
            )
            for index, each in enumerate(completions)
        ]
        return self._answer(choices, usage)

    def _echo(self, index: int) -> str:
        return self._echoed[index // self._count] if self._echoed else ""

    def _told(self, part: Piece | stream.Completion, offset: int) -> CompletionLogprobs:
        return completion_logprobs(self.texts, part.token_ids, part.logprobs, offset)

    def _answer(self, choices: list[CompletionChoice], usage: Usage | None = None) -> Completion:
        return Completion(
            id=self.id,
            created=self.created,
            model=self.model,
            system_fingerprint=self.fingerprint,
            choices=choices,
            usage=usage if self.with_usage or usage is not None else UNSET,
        )
