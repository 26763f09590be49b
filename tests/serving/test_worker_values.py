"""What crosses between a server and its workers arrives as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deepseek.errors import ConfigError, DataError, DeepSeekError, UnknownNameError
from deepseek.serving.errors import QueueFullError, RequestError, describe
from deepseek.serving.workers.faults import fault, raised
from deepseek.serving.workers.frames import FrameError, FrameReader
from deepseek.serving.workers.messages import Predict
from deepseek.serving.workers.values import MessageReader, MessageWriter, lifted

plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.binary(max_size=20),
    st.binary(min_size=4090, max_size=4110),
    st.lists(st.text(max_size=3), max_size=3),
)
arrays = hnp.arrays(
    st.one_of(hnp.scalar_dtypes(), hnp.unicode_string_dtypes(max_len=4)),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=20),
)
rows_strategy = st.lists(st.dictionaries(st.text(max_size=4), st.one_of(plain, arrays), max_size=4), max_size=4)


def crossed(rows: Any, step: int) -> Any:
    """Through a stream that gives ``step`` bytes at a time, twice, so that frames follow each other."""
    writer, reader, frames = MessageWriter(), MessageReader(), FrameReader()
    data = b"".join(bytes(piece) for piece in writer.frame(Predict(7, [len(rows)], lifted(rows), {"p": 1.0}))) * 2
    messages = []
    at = 0
    while at < len(data):
        buffer = frames.buffer()
        count = min(step, len(buffer), len(data) - at)
        buffer[:count] = data[at : at + count]
        at += count
        messages += [reader.message(frame) for frame in frames.received(count)]
    assert len(messages) == 2
    first, second = messages
    assert first.number == 7
    assert second.parameters == {"p": 1.0}
    return second.rows


@settings(max_examples=150, deadline=None)
@given(rows_strategy, st.sampled_from([1, 7, 4096, 1 << 20]))
def test_any_row_arrives_with_its_types_dtypes_and_shapes(rows: Any, step: int) -> None:
    arrived = crossed(rows, step)
    assert len(arrived) == len(rows)
    for before, after in zip(rows, arrived, strict=True):
        assert list(before) == list(after)
        for name, value in before.items():
            got = after[name]
            assert type(got) is type(value)
            if isinstance(value, np.ndarray):
                assert got.dtype == value.dtype
                assert got.shape == value.shape
                assert got.tobytes() == value.tobytes()
                assert got.flags.writeable
                assert got.flags.aligned
            else:
                assert got == value


def test_large_arrays_of_any_memory_layout_and_bytes_arrive() -> None:
    image = np.arange(224 * 224 * 3, dtype=np.float32).reshape(224, 224, 3)
    rows = [{"x": image, "turned": image.transpose(2, 0, 1), "every": image[::2], "blob": bytes(range(256)) * 4000}]
    (row,) = crossed(rows, 1 << 16)
    assert np.array_equal(row["x"], image)
    assert np.array_equal(row["turned"], image.transpose(2, 0, 1))
    assert np.array_equal(row["every"], image[::2])
    assert row["blob"] == rows[0]["blob"]


def test_numpy_scalars_and_arrays_of_text_arrive() -> None:
    texts = np.array([["a", "bc"], ["", "ü"]], dtype=object)
    (row,) = crossed([{"f": np.float32(1.5), "i": np.int64(-3), "b": np.bool_(True), "t": texts}], 64)
    assert (type(row["f"]), type(row["i"]), type(row["b"])) == (np.float32, np.int64, np.bool_)
    assert (row["f"], row["i"], row["b"]) == (1.5, -3, True)
    assert row["t"].dtype == object
    assert row["t"].tolist() == texts.tolist()


def test_what_cannot_cross_is_named() -> None:
    with pytest.raises(TypeError, match="received _Odd"):
        MessageWriter().frame(Predict(1, [1], [{"x": _Odd()}], {}))
    with pytest.raises(OverflowError):
        MessageWriter().frame(Predict(1, [1], [{"x": 2**64}], {}))


class _Odd:
    pass


def test_a_stream_of_something_else_is_refused() -> None:
    frames = FrameReader()
    data = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n"
    frames.buffer()[: len(data)] = data
    with pytest.raises(FrameError):
        list(frames.received(len(data)))


class _PluginError(ConfigError):
    pass


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (DataError("expected a, received b"), DataError, "expected a, received b"),
        (UnknownNameError("model", "smal", ["small"]), UnknownNameError, "unknown model 'smal'. Did you mean 'small'?"),
        (ValueError("no"), ValueError, "no"),
        (KeyError("x"), KeyError, "'x'"),
        (ZeroDivisionError("division by zero"), ZeroDivisionError, "division by zero"),
        (RuntimeError("cuda"), RuntimeError, "cuda"),
        (StopIteration(1), RuntimeError, "StopIteration: 1"),
        (_PluginError("plugin"), ConfigError, "plugin"),
        (QueueFullError("full", 1.0), DeepSeekError, "full"),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), UnicodeError, "'utf-8' codec can't decode byte 0x78"),
        (KeyboardInterrupt("stop"), RuntimeError, "KeyboardInterrupt: stop"),
    ],
)
def test_exceptions_arrive_as_what_decides_how_the_client_is_told(
    error: BaseException, kind: type[Exception], message: str
) -> None:
    again = raised(fault(error))
    assert type(again) is kind
    assert str(again).startswith(message)
    if isinstance(error, Exception) and not isinstance(error, QueueFullError):
        assert describe(again).http_status == describe(error).http_status


def test_an_error_of_a_plugin_that_is_the_clients_stays_the_clients() -> None:
    class RefusedError(DeepSeekError, ValueError):
        pass

    again = raised(fault(RefusedError("expected less")))
    assert type(again) is RequestError
    assert str(again) == "expected less"


def test_the_workers_traceback_is_for_the_log_and_not_for_the_client() -> None:
    try:
        raise ValueError("no")
    except ValueError as error:
        again = raised(fault(error))
    assert "test_worker_values.py" in again.__notes__[0]
    assert str(again) == "no"
