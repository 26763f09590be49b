"""Both wire forms give back the rows that went in, and refuse what does not fit the signature."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_fakes import ARRAYS, TEXT_CLASSIFICATION

from deepseek.serving.errors import RequestError
from deepseek.serving.oip import json_codec, proto_codec, raw
from deepseek.serving.oip.codec import Codec, Inference
from deepseek.serving.oip.tensor_field import TensorField
from deepseek.serving.proto import open_inference_pb2 as pb
from deepseek.tasks.signature import Field, Signature

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
values: dict[str, st.SearchStrategy[Any]] = {
    "string": text,
    "bytes": st.binary(max_size=8),
    "bool": st.booleans(),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "float32": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "float64": st.floats(allow_nan=False, allow_infinity=False),
}


@st.composite
def tensors(draw: st.DrawFn) -> tuple[Signature, list[dict[str, Any]]]:
    dtype = draw(st.sampled_from(list(values)))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=2)))
    declared = tuple(-1 if draw(st.booleans()) else size for size in shape)
    field = Field(name="t", dtype=dtype, shape=declared)  # type: ignore[arg-type]
    count = draw(st.integers(1, 4))

    def nest(sizes: tuple[int, ...]) -> Any:
        return [nest(sizes[1:]) for _ in range(sizes[0])] if sizes else draw(values[dtype])

    return Signature(inputs=(field,), outputs=(field,)), [{"t": nest(shape)} for _ in range(count)]


def plain(rows: Any) -> list[Any]:
    return [np.asarray(row["t"]).tolist() if isinstance(row["t"], np.ndarray) else row["t"] for row in rows]


@settings(max_examples=150, deadline=None)
@given(tensors())
def test_json_round_trip(case: Any) -> None:
    signature, rows = case
    codec = Codec(signature)
    body = json_codec.encode("m", "1", Inference(rows, {}, codec.select(()), "id"), rows)[0]
    answer = msgspec.json.decode(body)
    assert answer["id"] == "id"
    request = msgspec.json.encode({"inputs": answer["outputs"]})
    assert plain(json_codec.decode(codec, request).rows) == [row["t"] for row in rows]


@settings(max_examples=150, deadline=None)
@given(tensors(), st.booleans())
def test_protobuf_round_trip(case: Any, as_raw: bool) -> None:
    signature, rows = case
    codec = Codec(signature)
    inference = Inference(rows, {}, codec.select(()), "id", as_raw)
    answer = pb.ModelInferResponse.FromString(proto_codec.encode("m", "1", inference, rows).SerializeToString())
    assert answer.id == "id"
    assert bool(answer.raw_output_contents) == as_raw
    request = pb.ModelInferRequest(raw_input_contents=answer.raw_output_contents)
    for tensor in answer.outputs:
        copy = request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if not as_raw:
            copy.contents.CopyFrom(tensor.contents)
    decoded = proto_codec.decode(codec, request)
    assert plain(decoded.rows) == [row["t"] for row in rows]
    assert decoded.raw == as_raw


def infer(signature: Signature = TEXT_CLASSIFICATION, **request: Any) -> Inference:
    return json_codec.decode(Codec(signature), msgspec.json.encode(request))


def tensor(**changes: Any) -> dict[str, Any]:
    return {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]} | changes


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "missing required field `inputs`"),
        ({"inputs": []}, "missing input 'text'"),
        ({"inputs": [tensor(name="txet")]}, "unknown input 'txet'; did you mean 'text'"),
        ({"inputs": [tensor(), tensor()]}, "given twice"),
        ({"inputs": [tensor(datatype="FP32")]}, "input 'text': expected datatype BYTES, received 'FP32'"),
        ({"inputs": [tensor(shape=[2])]}, r"expected 2 elements for shape \[2\], received 1"),
        ({"inputs": [tensor(shape=[])]}, r"expected shape \[rows\] or \[rows, 1\], received \[\]"),
        ({"inputs": [tensor(shape=[1, 2])]}, r"received \[1, 2\]"),
        ({"inputs": [tensor(shape=[-1])]}, r"received \[-1\]"),
        ({"inputs": [tensor(shape=[0], data=[])]}, "at least one row"),
        ({"inputs": [tensor(data=[1])]}, r"expected strings \(BYTES\), received 1 at position 0"),
        ({"inputs": [tensor(data=[None])]}, "received None"),
        ({"inputs": [tensor(shape=[2, 1], data=[["a"], ["b", "c"]])]}, "nested data does not have shape"),
        ({"inputs": [tensor()], "outputs": [{"name": "labels"}]}, "unknown output 'labels'; did you mean 'label'"),
        ({"inputs": [tensor()], "parameters": {"temprature": 1}}, "unknown parameter 'temprature'; did you mean 'temp"),
        ({"inputs": [tensor()], "parameters": {"top_k": 1.5}}, "parameter 'top_k': expected integers"),
        ({"inputs": [tensor()], "parameters": {"top_k": 2**64}}, "does not fit INT64"),
    ],
)
def test_json_refusals_name_the_field_and_both_sides(request_: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        infer(**request_)


def test_both_scalar_shapes_nested_data_selection_and_parameters() -> None:
    for shape, data in ([2], ["a", "b"]), ([2, 1], ["a", "b"]), ([2, 1], [["a"], ["b"]]):
        decoded = infer(
            inputs=[tensor(shape=shape, data=data)],
            outputs=[{"name": "score", "parameters": {"binary_data": False}}, {"name": "label"}],
            parameters={"temperature": 2, "top_k": None, "binary_data_output": True},
        )
        assert decoded.rows == [{"text": "a"}, {"text": "b"}]
        assert [field.name for field in decoded.outputs] == ["score", "label"]
        assert decoded.parameters == {"temperature": 2.0}


def test_optional_inputs_may_be_absent_and_all_inputs_need_the_same_rows() -> None:
    x = {"name": "x", "shape": [2, 1, 2], "datatype": "FP32", "data": [1, 2, 3, 4.5]}
    n = {"name": "n", "shape": [2], "datatype": "INT32", "data": [1, 2]}
    decoded = infer(ARRAYS, inputs=[x, n])
    assert set(decoded.rows[0]) == {"x", "n"}
    assert decoded.rows[1]["x"].dtype == np.float32
    assert decoded.rows[1]["x"].tolist() == [[3.0, 4.5]]
    with pytest.raises(RequestError, match="same number of rows in every input, received 'x' 2, 'n' 1"):
        infer(ARRAYS, inputs=[x, n | {"shape": [1], "data": [1]}])
    with pytest.raises(RequestError, match=r"expected shape \[rows, any, 2\], received \[2, 2\]"):
        infer(ARRAYS, inputs=[x | {"shape": [2, 2]}, n])
    with pytest.raises(RequestError, match="3000000000 at position 1 does not fit INT32"):
        infer(ARRAYS, inputs=[x, n | {"data": [1, 3_000_000_000]}])
    with pytest.raises(RequestError, match="expected integers"):
        infer(ARRAYS, inputs=[x, n | {"data": [True, False]}])
    blob = {"name": "blob", "shape": [2], "datatype": "BYTES", "parameters": {"content_type": "base64"}}
    assert infer(ARRAYS, inputs=[x, n, blob | {"data": ["/w==", ""]}]).rows[0]["blob"] == b"\xff"
    with pytest.raises(RequestError, match="content_type is base64"):
        infer(ARRAYS, inputs=[x, n, blob | {"data": ["%", ""]}])


def test_plain_rows() -> None:
    codec = Codec(TEXT_CLASSIFICATION)
    assert codec.row("a") == codec.row({"text": "a"}) == {"text": "a"}
    with pytest.raises(RequestError, match="expected strings"):
        codec.row(1)
    with pytest.raises(RequestError, match="missing input 'text'"):
        codec.row({})
    arrays = Codec(ARRAYS)
    assert arrays.row({"x": [[1, 2]], "n": 1})["x"].shape == (1, 2)
    with pytest.raises(RequestError, match="expected an object with the inputs x, n"):
        arrays.row([[1, 2]])
    for wrong in [[1, 2]], [[1, 2], [3]], [[[1, 2]]], 1, [[1, "a"]]:
        with pytest.raises(RequestError, match="input 'x'"):
            arrays.row({"x": wrong, "n": 1} if wrong != [[1, 2]] else {"x": [1, 2], "n": 1})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"contents": {"int64_contents": [1]}}, r"expected 1 elements .* received 0 in contents.bytes_contents"),
        ({"contents": {"bytes_contents": [b"\xff"]}}, "expected UTF-8 text"),
        ({"raw": [b"\1\0\0"]}, "end inside the length of element 0"),
        ({"raw": [b"\5\0\0\0ab"]}, "element 0 says 5 bytes, but only 2"),
        ({"raw": [b"", b""]}, "one raw_input_contents for each of 1 inputs, received 2"),
        ({"raw": [b""], "contents": {"bytes_contents": [b"a"]}}, "received both"),
    ],
)
def test_protobuf_refusals(changes: Any, message: str) -> None:
    item = {"name": "text", "datatype": "BYTES", "shape": [1]}
    if "contents" in changes:
        item["contents"] = changes["contents"]
    request = pb.ModelInferRequest(inputs=[item], raw_input_contents=changes.get("raw", []))
    with pytest.raises(RequestError, match=message):
        proto_codec.decode(Codec(TEXT_CLASSIFICATION), request)


@pytest.mark.parametrize("value", [3.5e38, -1e300, 10**39])
def test_json_numbers_that_would_become_infinite_are_refused(value: float) -> None:
    x = {"name": "x", "shape": [1, 2, 2], "datatype": "FP32", "data": [1, 2, value, 4]}
    n = {"name": "n", "shape": [1], "datatype": "INT64", "data": [1]}
    with pytest.raises(RequestError, match="at position 2 does not fit FP32"):
        infer(ARRAYS, inputs=[x, n])


@pytest.mark.parametrize("shape", [[10**12, 0, 2], [2**63 - 1, 0, 2]])
def test_shapes_without_elements_cannot_ask_for_rows_without_end(shape: list[int]) -> None:
    x = {"name": "x", "shape": shape, "datatype": "FP32", "data": []}
    with pytest.raises(RequestError, match="at most 65536 rows and parts"):
        infer(ARRAYS, inputs=[x])
    request = pb.ModelInferRequest(inputs=[{"name": "x", "datatype": "FP32", "shape": shape}])
    with pytest.raises(RequestError, match="at most 65536 rows and parts"):
        proto_codec.decode(Codec(ARRAYS), request)


def test_raw_numbers_must_be_whole_elements() -> None:
    with pytest.raises(RequestError, match="multiple of 4 raw bytes for FP32, received 3"):
        raw.unpack(TensorField(Field(name="x", dtype="float32"), "input"), b"abc")


def test_rows_of_different_sizes_cannot_be_one_tensor() -> None:
    field = TensorField(Field(name="x", dtype="float32", shape=(-1,)), "output")
    with pytest.raises(RequestError, match=r"different sizes \(1, 2\)"):
        field.flatten_rows([[1.0], [1.0, 2.0]])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(["a", "BYTES", "FP32"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "data", "p"]), inner),
    max_leaves=8,
)
loose_tensor = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["x", "n", "flag", "tags", "blob", "y"]),
        "datatype": st.sampled_from(["FP32", "INT32", "BOOL", "BYTES", "?"]),
        "shape": st.lists(st.integers(-1, 3), max_size=3) | json_values,
        "data": st.lists(json_values, max_size=4) | json_values,
    }
)


@settings(max_examples=300, deadline=None)
@given(st.fixed_dictionaries({"inputs": st.lists(loose_tensor, max_size=3)}, optional={"parameters": json_values}))
def test_any_json_is_an_inference_or_a_refusal(request: Any) -> None:
    try:
        body = msgspec.json.encode(request)
    except (OverflowError, msgspec.MsgspecError):
        return
    with contextlib.suppress(RequestError):
        json_codec.decode(Codec(ARRAYS), body)


def test_json_that_is_nested_too_deep_is_refused() -> None:
    body = b'{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ' + b"[" * 100_000
    with pytest.raises(RequestError):
        json_codec.decode(Codec(TEXT_CLASSIFICATION), body)
