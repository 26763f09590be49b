"""The runtime: opens a converted model with the provider of a device and runs batches of any shape on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from deepseek.errors import ConfigError, UnknownNameError
from deepseek.inference.conversion.copies import INT8, copy_of, needed_copy
from deepseek.inference.conversion.feeding import arrays
from deepseek.inference.conversion.keeping import read_about
from deepseek.inference.onnx.conversion import MODEL, converted
from deepseek.inference.onnx.library import devices, missing, onnxruntime, provider_of
from deepseek.inference.recording import Batch
from deepseek.inference.runtime import Availability, Runtime
from deepseek.models.checkpoint import Checkpoint

if TYPE_CHECKING:
    import torch

    from deepseek.tasks.base import Generated

DTYPES = ("auto", "float32", INT8)


class OnnxRuntime(Runtime):
    """ONNX Runtime, for encoders and classifiers: one forward pass a batch. ``auto`` is float32."""

    name: ClassVar[str] = "onnxruntime"
    makes_copies: ClassVar[tuple[str, ...]] = (INT8,)

    @classmethod
    def available(cls) -> Availability:
        if absent := missing():
            return Availability(False, (), f"not installed ({', '.join(absent)}); pip install 'deepseek[onnx]'")
        here = devices()
        return Availability(bool(here), here, f"ONNX Runtime {onnxruntime().__version__}: {', '.join(here)}")

    @classmethod
    def precisions(cls, checkpoint: Checkpoint, head: str, device: str) -> tuple[str, ...]:
        here = devices()
        if head == "causal-lm" or (device != "auto" and device not in here and f"{device}:0" not in here):
            return ()
        on_cpu = provider_of(device)[0] == "CPUExecutionProvider"
        return ("float32", INT8) if on_cpu and copy_of(checkpoint, cls.name) else ("float32",)

    def quantize(
        self, checkpoint: Checkpoint, head: str, batches: Sequence[Batch], folder: Path, dtype: str = INT8
    ) -> None:
        _refuse_generation(head)
        from deepseek.inference.onnx.quantization import quantized

        quantized(converted(checkpoint, head), folder)

    def load(self, checkpoint: Checkpoint, head: str, *, device: str = "auto", dtype: str = "auto") -> OnnxModel:
        _refuse_generation(head)
        if dtype not in DTYPES:
            raise UnknownNameError("dtype", dtype, DTYPES, hint="The runtimes 'torch' and 'openvino' know others.")
        provider_of(device)  # a wrong name costs no conversion
        if dtype == INT8:
            return self.open_copy(needed_copy(checkpoint, self.name), device=device)
        return opened(converted(checkpoint, head), device=device)

    def open_copy(self, folder: Path, *, device: str = "auto") -> OnnxModel:
        return opened(folder, device=device)


def opened(folder: Path, *, device: str = "auto") -> OnnxModel:
    """A folder with :data:`MODEL` and what is known of it, as an executable.

    Raises:
        ConfigError: the device is not here, or its provider does not start.
    """
    return OnnxModel(session(folder / MODEL, device=device), read_about(folder))


def session(path: Path, *, device: str = "auto") -> Any:
    """An ``onnxruntime.InferenceSession`` on a device, with as many threads as PyTorch has.

    Raises:
        ConfigError: the device is not here, or its provider does not start.
    """
    import torch

    library = onnxruntime()
    provider, options = provider_of(device)
    settings = library.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    providers = [(provider, options)]
    if provider != "CPUExecutionProvider":  # it leaves to the processor what the provider has no kernel for
        providers.append(("CPUExecutionProvider", {}))
    made = library.InferenceSession(str(path), settings, providers=providers)
    if provider not in made.get_providers():
        raise ConfigError(
            f"ONNX Runtime lists {provider} and could not start it: its libraries (for CUDA: those of the version that "
            "this onnxruntime was built for, and cuDNN) are not here. Install them, or take device='cpu'"
        )
    return made


class OnnxModel:
    """A session as an executable. Threads may share it."""

    def __init__(self, made: Any, about: Mapping[str, Any]) -> None:
        self._session = made
        self._inputs: list[str] = about["inputs"]
        self._outputs: list[str] = about["outputs"]
        self.context_length: int | None = about["context_length"]

    def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        import torch

        found = self._session.run(self._outputs, arrays(batch, self._inputs))
        return {name: torch.from_numpy(value).float() for name, value in zip(self._outputs, found, strict=True)}

    def generate(self, batch: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> list[Generated]:
        raise ConfigError("the runtime 'onnxruntime' does not generate text; use 'torch'")


def _refuse_generation(head: str) -> None:
    if head == "causal-lm":
        raise ConfigError("the runtime 'onnxruntime' answers with one pass and does not generate text; use 'torch'")
