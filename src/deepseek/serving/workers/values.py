"""Rows, parameters and outputs as MessagePack, with large arrays and bytes beside it.

Plain values are msgspec's; ``numpy`` arrays, scalars and large ``bytes`` are extension types, so that they arrive as
what they were: same dtype, same shape, writable. Up to ``INLINE_BYTES`` they are inside the message, above it they are
buffers of the frame and are not copied. Nothing here is able to make code run, unlike pickle.

What cannot cross: integers beyond 64 bits, and objects of other classes (a tensor, say); ``TypeError`` or
``OverflowError`` names them. Tuples arrive as lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from deepseek.serving.models.served_model import Row
from deepseek.serving.workers.frames import Buffer, Frame, frame
from deepseek.serving.workers.messages import Message

INLINE_BYTES = 4096
_INLINE, _BESIDE, _OBJECTS, _BYTES, _SCALAR = 1, 2, 3, 4, 5

_head_encoder = msgspec.msgpack.Encoder()
_head_decoder = msgspec.msgpack.Decoder(tuple[str, tuple[int, ...]])


class _LargeBytes:
    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class MessageWriter:
    """Makes frames of messages. One for each thread."""

    def __init__(self) -> None:
        self._encoder = msgspec.msgpack.Encoder(enc_hook=self._extension)
        self._buffers: list[Buffer] = []

    def frame(self, message: Message) -> list[Buffer]:
        """The pieces to write; raises ``TypeError`` or ``OverflowError`` for a value that cannot cross."""
        buffers: list[Buffer] = []
        self._buffers = buffers
        encoded = self._encoder.encode(message)
        return frame(encoded, buffers)

    def _extension(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return self._array(value)
        if isinstance(value, _LargeBytes):
            self._buffers.append(value.data)
            return msgspec.msgpack.Ext(_BYTES, len(self._buffers).to_bytes(4, "little"))
        if isinstance(value, np.generic):
            return msgspec.msgpack.Ext(_SCALAR, _described(value.dtype.str, ()) + value.tobytes())
        if isinstance(value, Mapping):
            return dict(value)
        raise TypeError(
            f"expected text, numbers, bytes, lists, dicts or numpy arrays, received {type(value).__name__}; "
            f"other objects cannot pass between a server and its worker processes"
        )

    def _array(self, array: np.ndarray[Any, Any]) -> msgspec.msgpack.Ext:
        if array.dtype.hasobject:
            if array.dtype != object:
                raise TypeError(f"an array of dtype {array.dtype} cannot pass between processes")
            body = self._encoder.encode([list(array.shape), array.ravel().tolist()])
            return msgspec.msgpack.Ext(_OBJECTS, body)
        head = _described(array.dtype.str, array.shape)
        if array.nbytes <= INLINE_BYTES:
            return msgspec.msgpack.Ext(_INLINE, head + array.tobytes())
        self._buffers.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return msgspec.msgpack.Ext(_BESIDE, len(self._buffers).to_bytes(4, "little") + head)


class MessageReader:
    """Makes messages of frames. One for each thread."""

    def __init__(self) -> None:
        self._decoder = msgspec.msgpack.Decoder(Message, ext_hook=self._value)
        self._plain = msgspec.msgpack.Decoder(ext_hook=self._value)
        self._buffers: Sequence[bytearray] = ()

    def message(self, frame: Frame) -> Message:
        """The message of a frame; raises ``msgspec.DecodeError`` for what is none."""
        self._buffers = frame.buffers
        try:
            message: Message = self._decoder.decode(frame.message)
            return message
        finally:
            self._buffers = ()

    def _value(self, code: int, data: memoryview) -> Any:
        if code == _BYTES:
            return bytes(self._buffers[int.from_bytes(data, "little") - 1])
        if code == _OBJECTS:
            shape, values = self._plain.decode(data)
            array = np.empty(len(values), dtype=object)
            array[:] = values
            return array.reshape(shape)
        buffer: bytearray | None = None
        if code == _BESIDE:
            buffer = self._buffers[int.from_bytes(data[:4], "little") - 1]
            data = data[4:]
        size = data[0]
        dtype, dimensions = _head_decoder.decode(data[1 : 1 + size])
        if buffer is None:
            buffer = bytearray(data[1 + size :])
        made: np.ndarray[Any, Any] = np.ndarray(dimensions, np.dtype(dtype), buffer=buffer)
        return made[()] if code == _SCALAR else made


def _described(dtype: str, shape: tuple[int, ...]) -> bytes:
    head = _head_encoder.encode((dtype, shape))
    return bytes((len(head),)) + head


def lifted(rows: Sequence[Row]) -> Sequence[Row]:
    """The rows with their large ``bytes`` marked to go beside the message (those inside of lists go within it)."""
    if not any(type(value) is bytes and len(value) > INLINE_BYTES for row in rows for value in row.values()):
        return rows
    return [
        {
            name: _LargeBytes(value) if type(value) is bytes and len(value) > INLINE_BYTES else value
            for name, value in row.items()
        }
        for row in rows
    ]
