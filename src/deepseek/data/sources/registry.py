"""Which source reads what: by file suffix, by format name, by the kind of object, or by the name of a data set."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from deepseek.data.datasets import DATASETS
from deepseek.data.sources.base import Source
from deepseek.data.sources.lines import text_suffix
from deepseek.errors import ConfigError, DataError, UnknownNameError
from deepseek.plugins.registry import Registry

SOURCES: Registry[Callable[..., Source]] = Registry(
    "source",
    {
        "arrow": "deepseek.data.sources.arrow:Arrow",
        "csv": "deepseek.data.sources.delimited:CSV",
        "dicom": "deepseek.data.sources.dicom:DICOM",
        "huggingface": "deepseek.data.sources.huggingface:HuggingFace",
        "images": "deepseek.data.sources.images:ImageFolder",
        "jsonl": "deepseek.data.sources.jsonl:JSONL",
        "nifti": "deepseek.data.sources.volumes:NIfTI",
        "nrrd": "deepseek.data.sources.volumes:NRRD",
        "pandas": "deepseek.data.sources.pandas_frame:Pandas",
        "parquet": "deepseek.data.sources.parquet:Parquet",
        "sql": "deepseek.data.sources.sql:SQL",
        "tsv": "deepseek.data.sources.delimited:TSV",
    },
)
"""Formats by name; a format is called with a path (or query, or object) and keyword options."""

_SUFFIXES = {
    "arrow": "arrow",
    "csv": "csv",
    "feather": "arrow",
    "ipc": "arrow",
    "json": "jsonl",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "nhdr": "nrrd",
    "nii": "nifti",
    "nrrd": "nrrd",
    "parquet": "parquet",
    "pq": "parquet",
    "tab": "tsv",
    "tsv": "tsv",
}
_FOLDERS = {"dicom", "images", "nifti", "nrrd", "huggingface"}
_IMAGES = {"avif", "bmp", "gif", "ico", "jpeg", "jpg", "png", "ppm", "tif", "tiff", "webp"}


def open_source(data: Any, *, format: str | None = None, **options: Any) -> Source:  # noqa: A002
    """Open whatever rows can be read from; nothing is read yet.

    Args:
        data: a file (its format by the suffix, ``.gz`` and ``.zst`` behind it allowed for text); a folder of Parquet,
            CSV, JSONL or Arrow files, of images, of DICOM, NIfTI or NRRD files, or one saved by ``save_to_disk``; a
            glob pattern or a list of files; an Arrow table, batch or reader; a pandas frame; a Hugging Face ``Dataset``
            or ``DatasetDict``; or the name of a data set such as ``"hutto-movie-reviews"``.
        format: a name of :data:`SOURCES`, where the suffix does not tell; ``"sql"`` takes a query as ``data``.
        options: the format's own: ``encoding``, ``columns`` and ``schema`` for CSV and TSV; ``encoding`` and ``schema``
            for JSONL; ``schema`` for pandas; ``split``, ``verify`` and ``max_pixels`` for images; ``split`` for Hugging
            Face; ``database`` and ``schema`` for SQL; ``tags`` for DICOM.

    Raises:
        DataError: the suffix is not known and no format is given, or a pattern matches nothing.
        UnknownNameError: the format or data set is not known.
        ConfigError: the format does not have such an option.
    """
    if isinstance(data, list | tuple) and data and all(isinstance(item, str | Path) for item in data):
        return _several([Path(item).expanduser() for item in data], f"{len(data)} files", format, options)
    if not isinstance(data, str | Path):
        return _build(format or _object_format(data), data, options)
    text = str(data)
    if format == "sql":
        return _build(format, text, options)
    path = Path(text).expanduser()
    suffix = text_suffix(path)
    named = isinstance(data, str) and not suffix and os.sep not in text and not path.exists()
    if format is None and (text in DATASETS or named):
        return _named(text, options)
    if any(mark in text for mark in "*?[") and not path.exists():
        found = sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor) if path.anchor else path)))
        if not found:
            raise DataError(f"no file matches {text}")
        return _several(found, text, format, options)
    if path.is_dir():
        return _folder(path, text, format, options)
    chosen = format or _SUFFIXES.get(suffix) or (suffix if suffix in SOURCES else None)
    if chosen is None:
        raise DataError(
            f"{text}: the suffix {'.' + suffix if suffix else '(none)'!r} is of no known format; give format= one of "
            f"{', '.join(SOURCES)}"
        )
    return _build(chosen, data, options)


def _object_format(data: Any) -> str:
    package, kind = type(data).__module__.partition(".")[0], type(data).__name__
    if package in {"pyarrow", "pandas"}:
        return "arrow" if package == "pyarrow" else "pandas"
    if package == "datasets":
        return "huggingface"
    raise DataError(
        f"expected a path, the name of a data set, an Arrow table, a pandas frame or a Hugging Face data set, received "
        f"{kind}"
    )


def _named(name: str, options: dict[str, Any]) -> Source:
    if name not in DATASETS:
        raise UnknownNameError("data set", name, DATASETS, hint="For a file, give a path with a suffix or format=.")
    from deepseek.data.sources.named import DatasetSource

    if options:
        raise ConfigError(f"the data set {name!r} takes no options, received {', '.join(sorted(options))}")
    return DatasetSource(DATASETS.get(name))


def _folder(path: Path, text: str, format: str | None, options: dict[str, Any]) -> Source:  # noqa: A002
    chosen = format or _folder_format(path)
    if chosen in _FOLDERS or (chosen in SOURCES and chosen not in set(_SUFFIXES.values())):
        return _build(chosen, path, options)
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and _SUFFIXES.get(text_suffix(file)) == chosen]
    if not files:
        raise DataError(f"{text} has no {chosen} files")
    return _several(files, text, chosen, options)


def _folder_format(path: Path) -> str:
    """The one format that all files of a folder have; raises :class:`DataError` if they do not agree."""
    if any((path / marker).is_file() for marker in ("dataset_dict.json", "state.json")):
        return "huggingface"
    found = set()
    for file in path.rglob("*"):
        if file.is_file() and not file.name.startswith((".", "_")):
            suffix = text_suffix(file)
            found.add(_SUFFIXES.get(suffix) or {"dcm": "dicom"}.get(suffix) or ("images" if suffix in _IMAGES else ""))
    if len(found) == 1 and (only := found.pop()):
        return only
    kinds = ", ".join(sorted(name or "other files" for name in found)) or "nothing"
    raise DataError(f"{path} is a folder with {kinds}; give format= one of {', '.join(SOURCES)}")


def _several(paths: Sequence[Path], name: str, format: str | None, options: dict[str, Any]) -> Source:  # noqa: A002
    from deepseek.data.sources.files import Files

    sources = [open_source(path, format=format, **options) for path in paths]
    return sources[0] if len(sources) == 1 else Files(sources, name)


def _build(name: str, data: Any, options: dict[str, Any]) -> Source:
    factory = SOURCES.get(name)
    accepted = inspect.signature(factory).parameters
    for option in options:
        if option not in accepted and not any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
            raise ConfigError(
                f"{data}: format {name!r} has no option {option!r}; it has: {', '.join(list(accepted)[1:])}"
            )
    return factory(data, **options)
