"""``POST /v1/chat/completions``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import UNSET

from deepseek.inference.generation.stream import Completion, Piece
from deepseek.serving.generation.batching import GenerationBatcher
from deepseek.serving.generation.host import Ask
from deepseek.serving.models.loaded_model import LoadedModel
from deepseek.serving.openai.errors import ParameterError
from deepseek.serving.openai.generating import GeneratingRoute, Rendering, finished
from deepseek.serving.openai.logprobs import chat_logprobs
from deepseek.serving.openai.messages import chat_of
from deepseek.serving.openai.requests import ChatRequest, Generation, decode
from deepseek.serving.openai.responses import (
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
    ChatLogprobs,
    ChatMessage,
    Usage,
)
from deepseek.serving.openai.sampling import grammar_of, plan_of

_decoder = msgspec.json.Decoder(ChatRequest)


class ChatRoute(GeneratingRoute):
    """Continues a conversation."""

    operation = "chat"

    def decoded(self, body: bytes) -> Generation:
        return decode(_decoder, body)

    def rendering(self, request: Generation, loaded: LoadedModel, batcher: GenerationBatcher) -> Rendering:
        assert isinstance(request, ChatRequest)
        return _ChatRendering(request, loaded, batcher)


class _ChatRendering(Rendering):
    prefix = "chatcmpl"

    def __init__(self, request: ChatRequest, loaded: LoadedModel, batcher: GenerationBatcher) -> None:
        super().__init__(request, loaded, batcher)
        if request.max_tokens is not None and request.max_completion_tokens is not None:
            raise ParameterError(
                "give 'max_tokens' or 'max_completion_tokens', not both", "max_completion_tokens", "invalid_value"
            )
        if request.top_logprobs and not request.logprobs:
            raise ParameterError("'top_logprobs' needs 'logprobs' to be true", "top_logprobs", "invalid_value")
        self._logprobs = bool(request.logprobs)
        self._begun: set[int] = set()
        plan = plan_of(
            request,
            context=batcher.generator.context_length,
            max_tokens=request.max_completion_tokens or request.max_tokens,
            limit_name="max_tokens" if request.max_tokens else "max_completion_tokens",
            logprobs=(request.top_logprobs or 0) if self._logprobs else None,
            grammar=grammar_of(request.response_format),
        )
        self._asks = [Ask(chat_of(request.messages), request.n or 1, plan)]

    @property
    def asks(self) -> Sequence[Ask]:
        return self._asks

    def events(self, news: Iterable[tuple[int, Piece]]) -> list[msgspec.Struct]:
        events: list[msgspec.Struct] = []
        for index, piece in news:
            if index not in self._begun:
                self._begun.add(index)
                events.append(self._chunk([ChatChunkChoice(index, ChatDelta(role="assistant", content=""))]))
            logprobs = self._told(piece) if piece.logprobs else None
            if piece.text or logprobs:
                events.append(self._chunk([ChatChunkChoice(index, ChatDelta(content=piece.text), logprobs)]))
            if piece.finish_reason is not None:
                last = ChatChunkChoice(index, ChatDelta(), None, finished(piece.finish_reason))
                events.append(self._chunk([last]))
        return events

    def usage(self, usage: Usage) -> msgspec.Struct:
        return self._chunk([], usage)

    def whole(self, completions: Sequence[Completion], usage: Usage) -> msgspec.Struct:
        return ChatCompletion(
            id=self.id,
            created=self.created,
            model=self.model,
            system_fingerprint=self.fingerprint,
            choices=[
                ChatChoice(
                    index,
                    ChatMessage(each.text),
                    self._told(each) if self._logprobs else None,
                    finished(each.finish_reason),
                )
                for index, each in enumerate(completions)
            ],
            usage=usage,
        )

    def _told(self, part: Piece | Completion) -> ChatLogprobs:
        return chat_logprobs(self.texts, part.token_ids, part.logprobs)

    def _chunk(self, choices: list[ChatChunkChoice], usage: Usage | None = None) -> ChatChunk:
        return ChatChunk(
            id=self.id,
            created=self.created,
            model=self.model,
            system_fingerprint=self.fingerprint,
            choices=choices,
            usage=usage if self.with_usage else UNSET,
        )
