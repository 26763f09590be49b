"""``POST /v1/embeddings``: sentence-embedding models, through their micro-batcher.

Texts longer than the model's length are cut there, as everywhere with these models; ``usage`` counts what was read.
Token ids are refused: OpenAI's are those of another vocabulary (LangChain: ``check_embedding_ctx_length=False``).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from deepseek.serving.gateway import Gateway
from deepseek.serving.models.loaded_model import LoadedModel
from deepseek.serving.openai.errors import ParameterError
from deepseek.serving.openai.requests import MOST_INPUTS, EmbeddingRequest, decode
from deepseek.serving.openai.responses import Embedding, Embeddings, EmbeddingUsage
from deepseek.serving.rest.bodies import BodyReader
from deepseek.serving.rest.disconnect import result_or_disconnect
from deepseek.serving.rest.http import Response, Scope, Transport, json_response

VECTOR, TOKENS = "embedding", "prompt_tokens"
"""Outputs of a model that embeds; one without the second counts no tokens."""
_decoder = msgspec.json.Decoder(EmbeddingRequest)


class EmbeddingRoute:
    """Gives texts' vectors."""

    operation = "embeddings"

    def __init__(self, gateway: Gateway, bodies: BodyReader) -> None:
        self._gateway, self._bodies = gateway, bodies

    async def __call__(self, scope: Scope, transport: Transport) -> Response:
        """Answer one request."""
        with self._gateway.begin("openai", self.operation, scope.headers) as call:
            request = decode(_decoder, await self._bodies.json(scope.headers, transport))
            loaded = call.model(request.model)
            column = _column(loaded)
            texts = _texts(request.input)
            if (waiting := call.admit(len(texts))) is not None:
                await waiting
            rows = await result_or_disconnect(transport, loaded.batcher.submit([{column: text} for text in texts]))
            tokens = sum(int(row.get(TOKENS, 0)) for row in rows)
            call.use(input_tokens=tokens)
            return json_response(_body(request, rows, tokens))


def _column(loaded: LoadedModel) -> str:
    """The input of a model that embeds; raises :class:`ParameterError` for any other."""
    required = loaded.codec.required
    if VECTOR in loaded.codec.outputs and len(required) == 1 and loaded.codec.inputs[required[0]].dtype == "string":
        return required[0]
    raise ParameterError(
        f"model {loaded.name!r} is for {loaded.task} and embeds no texts; GET /v1/models lists the models",
        "model",
        "unsupported_model",
    )


def _texts(given: str | Sequence[str | int | list[int]]) -> list[str]:
    parts = [given] if isinstance(given, str) else given
    texts = [part for part in parts if isinstance(part, str)]
    if len(texts) != len(parts):
        raise ParameterError(
            "expected texts as 'input', received token ids, which are those of another model's vocabulary",
            "input",
            "unsupported_content",
        )
    if not 1 <= len(texts) <= MOST_INPUTS or not all(text.strip() for text in texts):
        raise ParameterError(
            f"expected 1 to {MOST_INPUTS} texts that are not empty as 'input'", "input", "invalid_value"
        )
    return texts


def _body(request: EmbeddingRequest, rows: Sequence[dict[str, Any]], tokens: int) -> Embeddings:
    width = len(rows[0][VECTOR])
    if request.dimensions not in (None, width):
        raise ParameterError(
            f"this model's vectors have {width} dimensions and cannot be cut to {request.dimensions}",
            "dimensions",
            "unsupported_parameter",
        )
    vectors = (np.asarray(row[VECTOR], dtype="<f4") for row in rows)
    coded = request.encoding_format == "base64"
    data = [
        Embedding(index=i, embedding=base64.b64encode(v.tobytes()).decode() if coded else v.tolist())
        for i, v in enumerate(vectors)
    ]
    return Embeddings(data=data, model=request.model, usage=EmbeddingUsage(tokens, tokens))
