"""Files in task requests: as forms, as base64 in JSON, one or many, with parameters; and forms that are wrong."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving_fakes import CONFIG, FakeArrays, FakeClassifier, classify
from upload_fakes import FakeImages, answer

from deepseek.serving import Server
from deepseek.serving.rest.forms import MAX_PART_HEADER_BYTES, MAX_PART_HEADERS
from deepseek.serving.rest.limits import RestLimits

URL = "/v1/tasks/image-classification"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
JPEG = b"\xff\xd8\xff\xe0" + os.urandom(3000)
LIMITS = RestLimits(max_form_parts=20)
Answers = list[dict[str, Any]]


def told(rows: Answers) -> Answers:
    """What the model says, as JSON has it."""
    return [row | {"thumbnail": base64.b64encode(row["thumbnail"]).decode()} for row in rows]


@pytest.fixture(scope="module")
def model() -> FakeImages:
    return FakeImages()


@pytest.fixture(scope="module")
def uploads(model: FakeImages) -> Iterator[httpx.Client]:
    config = CONFIG.model_copy(update={"rest": LIMITS})
    others = [FakeImages("others"), FakeImages("scans", "segmentation"), FakeClassifier(), FakeArrays()]
    with (
        Server(config, [model, *others]) as server,
        httpx.Client(base_url=server.http_url, timeout=30) as client,
    ):
        yield client


def test_one_file_is_one_row(uploads: httpx.Client) -> None:
    reply = uploads.post(URL, files={"image": ("cat.png", PNG, "image/png")})
    assert reply.json() == {"model": "pictures", "outputs": told([answer(PNG)])}


def test_several_files_are_a_batch_in_their_order(uploads: httpx.Client, model: FakeImages) -> None:
    files = [("image", (f"{at}.bin", PNG[at:])) for at in range(8)]
    reply = uploads.post(URL, files=files)
    assert reply.json()["outputs"] == told([answer(PNG[at:]) for at in range(8)])
    assert model.batches[-1] == 8


def test_other_inputs_parameters_and_the_model_are_fields(uploads: httpx.Client, model: FakeImages) -> None:
    parts = [
        ("model", (None, "pictures")),
        ("caption", (None, "ein Kätzchen 猫")),
        ("top_k", (None, "3")),
        ("exact", (None, "true")),
        ("mode", (None, "3")),
        ("box", (None, "[0, 1.5, 2, 3]")),
        ("image", ('猫 "x".png', PNG)),
    ]
    reply = uploads.post(URL, files=parts)
    assert reply.json()["outputs"] == told([answer(PNG, "ein Kätzchen 猫", [0, 1.5, 2, 3])])
    assert model.seen[-1] == {"top_k": 3, "exact": True, "mode": "3"}
    assert uploads.post(URL, files=[*parts[1:], ("model", (None, "others"))]).json()["model"] == "others"


def test_a_form_serves_models_without_files_too(uploads: httpx.Client) -> None:
    fields = [("text", (None, "a")), ("text", (None, "bc")), ("temperature", (None, "2"))]
    reply = uploads.post("/v1/tasks/text-classification", files=fields)
    assert reply.json()["outputs"] == [classify(text, {"temperature": 2}) for text in ("a", "bc")]
    arrays = {"x": (None, "[[1, 2]]"), "n": (None, "5"), "tags": (None, '["a", "b"]'), "blob": ("b", b"\x00\xff")}
    reply = uploads.post("/v1/tasks/echo", files=arrays)
    expected = {"x": [[1, 2]], "n": 5, "flag": False, "tags": ["a", "b"], "blob": base64.b64encode(b"\0\xff").decode()}
    assert reply.json()["outputs"] == [expected]


@pytest.mark.parametrize(
    "value",
    [
        {"base64": base64.b64encode(JPEG).decode()},
        {"base64": base64.urlsafe_b64encode(JPEG).decode()},
        {"base64": base64.encodebytes(JPEG).decode()},
        "data:image/jpeg;base64," + base64.b64encode(JPEG).decode(),
        "DATA:;BASE64," + base64.b64encode(JPEG).decode(),
    ],
    ids=["standard", "url-safe", "lines", "data-url", "data-url-bare"],
)
def test_base64_in_json(uploads: httpx.Client, value: Any) -> None:
    for inputs in (value, {"image": value}, [value, {"image": value}]):
        reply = uploads.post(URL, json={"inputs": inputs})
        if isinstance(inputs, dict) and "base64" in inputs:
            assert reply.status_code == 400  # an object is a row, and a row names its inputs
            assert "missing input 'image'" in reply.json()["error"]
            continue
        if isinstance(inputs, list) and isinstance(value, dict):
            inputs, reply = inputs[1:], uploads.post(URL, json={"inputs": inputs[1:]})
        count = len(inputs) if isinstance(inputs, list) else 1
        assert reply.json()["outputs"] == told([answer(JPEG)] * count)


def test_text_stands_for_its_bytes_and_a_data_url_may_be_text(uploads: httpx.Client) -> None:
    reply = uploads.post(URL, json={"inputs": ["ä", "data:,a%20b", "data"]})
    assert reply.json()["outputs"] == told([answer("ä".encode()), answer(b"a b"), answer(b"data")])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"image": {"base64": "!"}}, "input 'image': expected base64"),
        ({"image": {"base64": "ä"}}, "input 'image': expected base64"),
        ({"image": {"base64": 1}}, 'expected text, {"base64": "..."} or a data URL'),
        ({"image": {"path": "/etc/hostname"}}, "received an object with ['path']"),
        ({"image": 3}, "received 3"),
        ({"image": None}, "missing input 'image'"),
        ({"image": "data:image/png;base64"}, "with a comma"),
        ([{"image": "a"}, {"image": {"base64": "*"}}], "inputs[1]: input 'image'"),
        ({"image": "a", "box": [1, 2]}, "input 'box'"),
    ],
)
def test_wrong_values_in_json(uploads: httpx.Client, inputs: Any, message: str) -> None:
    reply = uploads.post(URL, json={"inputs": inputs})
    assert reply.status_code == 400
    assert message in reply.json()["error"]


def test_a_refusal_of_the_model_reaches_the_client(uploads: httpx.Client) -> None:
    reply = uploads.post(URL, files={"image": b""})
    assert (reply.status_code, reply.json()) == (400, {"error": "expected a picture, received no bytes"})


@pytest.mark.parametrize(
    ("files", "status", "message"),
    [
        ({"file": PNG}, 400, "unknown form field 'file'"),
        ({"imgae": PNG}, 400, "did you mean 'image'"),
        ({"caption": (None, "x")}, 400, "missing input 'image'"),
        ([("image", PNG), ("image", PNG), ("caption", (None, "x"))], 400, "same number of rows in every input"),
        ([("image", PNG), ("top_k", (None, "many"))], 400, "parameter 'top_k': expected a value of INT32"),
        ([("image", PNG), ("top_k", (None, "3.5"))], 400, "parameter 'top_k'"),
        ([("image", PNG), ("top_k", (None, "1")), ("top_k", (None, "2"))], 400, "parameter 'top_k': expected it once"),
        ([("image", PNG), ("caption", (None, b"\xff\xfe"))], 400, "form field 'caption': expected text in UTF-8"),
        ([("image", PNG), ("box", (None, "[1, 2]"))], 400, "input 'box'"),
        ([("image", PNG), ("model", (None, "scans"))], 400, "does 'segmentation'"),
        ([("image", PNG), ("model", (None, "a")), ("model", (None, "b"))], 400, "form field 'model': expected it once"),
        ([("image", PNG), ("model", (None, "nope"))], 404, "unknown model 'nope'"),
        ([("image", PNG)] * 21, 413, "at most 20 parts"),
    ],
)
def test_wrong_fields(uploads: httpx.Client, files: Any, status: int, message: str) -> None:
    reply = uploads.post(URL, files=files)
    assert (reply.status_code, message in reply.json()["error"]) == (status, True), reply.text
    assert uploads.post(URL, files={"image": PNG}).status_code == 200


DISPOSITION = b'Content-Disposition: form-data; name="image"\r\n'


def body(*parts: bytes, end: bytes = b"--b--\r\n") -> bytes:
    return b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + end


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b"", 400, "Unexpected end"),
        (b"--b--\r\n", 400, "empty"),
        (b"hello, this is no form at all", 400, "Unexpected end"),
        (body(DISPOSITION + b"\r\nabc", end=b""), 400, "Unexpected end"),
        (body(b"Content-Type: text/plain\r\n\r\nabc"), 400, "Missing Content-Disposition"),
        (body(b"Content-Disposition: form-data\r\n\r\nabc"), 400, "no name"),
        (body(b"Content-Disposition: attachment; name=x\r\n\r\nabc"), 400, "Wrong type"),
        (body(b"no colon\r\n\r\nabc"), 400, "Malformed segment header"),
        (body(DISPOSITION + b"\nabc"), 400, "the body is not a multipart/form-data form"),
        (body(DISPOSITION + b"Content-Length: 5\r\n\r\nabc"), 400, "does not match"),
        (body(DISPOSITION + b"Content-Transfer-Encoding: base64\r\n\r\nabc"), 400, "'image'"),
        (body(DISPOSITION + b"X-Long: " + b"a" * (MAX_PART_HEADER_BYTES + 1) + b"\r\n\r\nabc"), 413, "header length"),
        (body(DISPOSITION + b"X: a\r\n" * MAX_PART_HEADERS + b"\r\nabc"), 413, "header count"),
    ],
)
@pytest.mark.parametrize("chunk", [0, 1, 7], ids=["whole", "bytes", "sevens"])
def test_malformed_forms(uploads: httpx.Client, content: bytes, status: int, message: str, chunk: int) -> None:
    if chunk == 1 and len(content) > 500:
        chunk = 500
    sent = content if not chunk else (content[at : at + chunk] for at in range(0, len(content), chunk))
    reply = uploads.post(URL, content=sent, headers={"content-type": "multipart/form-data; boundary=b"})
    assert reply.status_code == status, reply.text
    assert message in reply.json()["error"]
    assert uploads.get("/v2/health/live").status_code == 200


@pytest.mark.parametrize(
    "kind", ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=" + "a" * 71]
)
def test_a_form_needs_a_boundary(uploads: httpx.Client, kind: str) -> None:
    reply = uploads.post(URL, content=body(DISPOSITION + b"\r\nabc"), headers={"content-type": kind})
    assert reply.status_code == 415
    assert "boundary of 1 to 70 characters" in reply.json()["error"]


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/mixed; boundary=b", "image/png"])
def test_other_bodies_are_refused(uploads: httpx.Client, kind: str) -> None:
    assert uploads.post(URL, content=b"image=a", headers={"content-type": kind}).status_code == 415


def test_a_form_over_the_limit_is_refused_by_length_and_while_reading(uploads: httpx.Client) -> None:
    limit = CONFIG.max_body_bytes
    large = body(DISPOSITION + b"\r\n" + b"a" * limit)
    pieces = (large[at : at + 8192] for at in range(0, len(large), 8192))
    for content in (large, pieces):
        reply = uploads.post(URL, content=content, headers={"content-type": "multipart/form-data; boundary=b"})
        assert reply.status_code == 413
        assert f"at most {limit} bytes" in reply.json()["error"]
    fits = body(DISPOSITION + b"\r\n" + b"a" * (limit - 200))
    reply = uploads.post(URL, content=fits, headers={"content-type": "multipart/form-data; boundary=b"})
    assert reply.json()["outputs"][0]["size"] == limit - 200


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    files=st.lists(
        st.binary(min_size=1, max_size=300) | st.sampled_from([b"\r\n--b", b"--b--", b"\r\n", b"\r"]),
        max_size=4,
        min_size=1,
    ),
    cut=st.integers(1, 64),
    before=st.sampled_from([b"", b"a preamble\r\n", b"\r\n"]),
)
def test_any_bytes_arrive_as_they_were_sent_however_they_are_cut(
    uploads: httpx.Client, files: list[bytes], cut: int, before: bytes
) -> None:
    separator = b"b7Yq0" * 8
    content = before + b"".join(b"--" + separator + b"\r\n" + DISPOSITION + b"\r\n" + file + b"\r\n" for file in files)
    content += b"--" + separator + b"--\r\n" + before
    pieces = (content[at : at + cut] for at in range(0, len(content), cut))
    kind = f"multipart/form-data; boundary={separator.decode()}"
    reply = uploads.post(URL, content=pieces, headers={"content-type": kind})
    assert reply.json()["outputs"] == told([answer(file) for file in files])
