"""MLServer: a custom runtime, as its documentation has it, with its own codec for arrays."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.serving_parts.models import chosen


class Contest(MLModel):
    """The model; MLServer joins requests before it calls :meth:`predict` where adaptive batching is on."""

    async def load(self) -> bool:
        """Build it."""
        _, self._model = chosen()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Rows in, rows out."""
        answer = self._model(NumpyCodec.decode_input(payload.inputs[0]))
        return InferenceResponse(
            id=payload.id,
            model_name=self.name,
            model_version=self.version,
            outputs=[NumpyCodec.encode_output("y", answer)],
        )
