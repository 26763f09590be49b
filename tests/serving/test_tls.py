"""TLS and mutual TLS on both protocols, with certificates made here."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from serving_fakes import CONFIG, FakeClassifier
from test_grpc_routes import infer_request

from deepseek.errors import ConfigError
from deepseek.serving import Server
from deepseek.serving.proto import open_inference_pb2_grpc as pb_grpc
from deepseek.serving.tls import TlsConfig

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, and a server's and a client's certificate that it signed."""
    folder = tmp_path_factory.mktemp("tls")
    make = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2")
    openssl(folder, *make, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test authority")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1", encoding="utf-8")
    for name in ("server", "client"):
        request = ("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl(folder, *request, "-subj", f"/CN={name}")
        sign = ("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial")
        openssl(folder, *sign, "-days", "2", "-out", f"{name}.pem", "-extfile", "names")
    return folder


def call_grpc(address: str, credentials: grpc.ChannelCredentials) -> Any:
    with grpc.secure_channel(address, credentials) as channel:
        return pb_grpc.GRPCInferenceServiceStub(channel).ModelInfer(infer_request(["hi"]), timeout=10)  # type: ignore[no-untyped-call]


def test_both_protocols_speak_tls(files: Path) -> None:
    tls = TlsConfig(certificate=files / "server.pem", key=files / "server.key")
    with Server(CONFIG.model_copy(update={"tls": tls}), [FakeClassifier()]) as server:
        assert server.http_url.startswith("https://")
        context = ssl.create_default_context(cafile=str(files / "ca.pem"))
        answer = httpx.post(server.http_url + "/v1/tasks/text-classification", json={"inputs": "hi"}, verify=context)
        assert answer.json()["outputs"][0]["label"] == "HI"
        credentials = grpc.ssl_channel_credentials((files / "ca.pem").read_bytes())
        assert call_grpc(server.grpc_address, credentials).outputs[0].contents.bytes_contents[0] == b"HI"
        with pytest.raises(httpx.TransportError):
            httpx.get(server.http_url.replace("https", "http") + "/v2/health/live")


def test_with_a_client_authority_only_clients_with_a_certificate_get_in(files: Path) -> None:
    tls = TlsConfig(certificate=files / "server.pem", key=files / "server.key", client_ca=files / "ca.pem")
    authority = (files / "ca.pem").read_bytes()
    with Server(CONFIG.model_copy(update={"tls": tls}), [FakeClassifier()]) as server:
        url = server.http_url + "/v2/health/ready"
        context = ssl.create_default_context(cafile=str(files / "ca.pem"))
        with pytest.raises(httpx.TransportError):
            httpx.get(url, verify=context)
        context.load_cert_chain(files / "client.pem", files / "client.key")
        assert httpx.get(url, verify=context).json() == {"ready": True}
        with pytest.raises(grpc.RpcError) as caught:
            call_grpc(server.grpc_address, grpc.ssl_channel_credentials(authority))
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]
        pair = ((files / "client.key").read_bytes(), (files / "client.pem").read_bytes())
        answer = call_grpc(server.grpc_address, grpc.ssl_channel_credentials(authority, *pair))
        assert answer.outputs[0].contents.bytes_contents[0] == b"HI"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"certificate": "none.pem"}, "tls.certificate: expected a PEM file, there is none at"),
        ({"key": "client.key"}, "are not a certificate and its key"),
        ({"client_ca": "names"}, "holds no certificates"),
    ],
)
def test_files_that_do_not_fit_are_refused_before_the_start(files: Path, changed: dict[str, str], message: str) -> None:
    names = {"certificate": "server.pem", "key": "server.key"} | changed
    tls = TlsConfig(**{name: files / file for name, file in names.items()})
    with pytest.raises(ConfigError, match=message):
        Server(CONFIG.model_copy(update={"tls": tls}), [FakeClassifier()]).start()
