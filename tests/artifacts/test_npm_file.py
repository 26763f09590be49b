"""Fetching a pinned npm package with the npm client, against a registry on loopback."""

from __future__ import annotations

import base64
import hashlib
import http.server
import io
import json
import shutil
import tarfile
import threading

import pytest

from deepseek.artifacts import NpmFile, fetch, unpack
from deepseek.errors import FetchError

pytestmark = pytest.mark.skipif(shutil.which("npm") is None, reason="needs the npm client")


def archive() -> bytes:
    buffer = io.BytesIO()
    scripts = {"preinstall": "touch ran", "prepare": "touch ran", "postinstall": "touch ran", "prepack": "touch ran"}
    members = {
        "package.json": json.dumps({"name": "@demo/data", "version": "1.0.0", "scripts": scripts}),
        "img/a.txt": "A",
    }
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in members.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


CONTENT = archive()
FILE = NpmFile(project="@demo/data", version="1.0.0", sha256=hashlib.sha256(CONTENT).hexdigest(), license="MIT")


@pytest.fixture
def registry(monkeypatch, tmp_path):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path.endswith(".tgz"):
                body = CONTENT
            elif self.path in {"/@demo%2fdata", "/@demo/data"}:
                integrity = "sha512-" + base64.b64encode(hashlib.sha512(CONTENT).digest()).decode()
                dist = {"tarball": f"{url}/@demo/data/-/data-1.0.0.tgz", "integrity": integrity}
                version = {"name": "@demo/data", "version": "1.0.0", "dist": dist}
                body = json.dumps(
                    {"name": "@demo/data", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
                ).encode()
            else:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", url)
    monkeypatch.setenv("NPM_CONFIG_CACHE", str(tmp_path / "npm"))
    monkeypatch.setenv("NPM_CONFIG_FETCH_RETRIES", "0")
    monkeypatch.setenv("DEEPSEEK_CACHE", str(tmp_path / "cache"))
    for name in ("DEEPSEEK_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    yield server
    server.shutdown()


def test_a_package_is_fetched_once_and_no_script_runs(registry, tmp_path):
    path = fetch(FILE)
    assert path.name == "demo-data-1.0.0.tgz"
    assert path.read_bytes() == CONTENT
    registry.shutdown()
    assert fetch(FILE) == path
    assert [p.name for p in unpack(FILE, "package/img").iterdir()] == ["a.txt"]
    assert not list(tmp_path.rglob("ran"))
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_another_content_than_pinned_is_an_error(registry):
    other = NpmFile(project="@demo/data", version="1.0.0", sha256="0" * 64, license="MIT")
    with pytest.raises(FetchError, match="SHA-256"):
        fetch(other)
    assert not list(other.cached.parent.iterdir())


def test_an_unknown_package_and_a_missing_client_are_said(registry, monkeypatch):
    with pytest.raises(FetchError, match="E404"):
        fetch(NpmFile(project="@demo/absent", version="1.0.0", sha256="1" * 64, license="MIT"))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FetchError, match="npm client is not installed") as caught:
        fetch(FILE)
    assert "NPM_CONFIG_REGISTRY" in str(caught.value)
    assert str(FILE.cached) in str(caught.value)
