"""DICOM series: a folder of slices becomes one row a series, as one volume in the encoding of ``volumes``.

Slices are grouped by series, sorted by their place along the normal of the slice plane, and checked: a series with a
slice missing, doubled, or of another size or orientation is a reject with the reason, because a volume with a hole in
it looks like any other. Stored values are rescaled (Hounsfield units for CT): to ``int16`` where slope and intercept
are whole numbers and the values fit, else to ``float32``.

Privacy: no tag that identifies the patient is read into the table. The series' UID is replaced by the first 16 digits
of its SHA-256; the path is left out, because folders are often named after patients (rejects name it, so that the file
can be found: treat the rejects table as confidential). ``tags=`` adds tags by keyword, as text; what that discloses is
the caller's decision. This is not a de-identification profile: text that is burnt into pixels stays.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from deepseek.data.sources.file_rows import FileRows, Unit, Unreadable, files_under
from deepseek.data.sources.lines import check_folder
from deepseek.data.sources.volumes import encode_volume, volume_fields
from deepseek.errors import ConfigError, require

GAP_TOLERANCE = 0.1
"""How far the step between two slices may differ from the usual one, as a share of it."""

_SEEN = ["SeriesInstanceUID", "SOPClassUID", "ImagePositionPatient", "ImageOrientationPatient", "InstanceNumber"]
_SEEN += ["Rows", "Columns", "PixelSpacing", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated"]


class DICOM(FileRows):
    """A folder of DICOM files, at any depth.

    Columns: ``series``, ``modality``, ``body_part``, ``slices``, ``rescaled`` (whether slope and intercept were
    applied), :func:`volume_fields`, and one text column for each of ``tags`` (keywords such as ``"KVP"``).
    """

    part_units: ClassVar[int] = 1

    def __init__(self, path: str | Path, *, tags: Sequence[str] = ()) -> None:
        super().__init__(path)
        self.tags = [tags] if isinstance(tags, str) else list(tags)
        taken = set(_base_fields().names)
        for tag in self.tags:
            if not tag.isidentifier() or tag in taken:
                raise ConfigError(f"tags: expected DICOM keywords such as 'KVP', received {tag!r}")

    def options(self) -> dict[str, Any]:
        """The options that change the rows."""
        return {"tags": self.tags}

    def schema(self) -> pa.Schema:
        """The columns, the same for every folder."""
        return pa.schema([*_base_fields(), *(pa.field(tag, pa.string()) for tag in self.tags)])

    def find(self) -> list[Unit]:
        """The files of each series, in the order of their first file; files that are no images stand alone."""
        check_folder(self.path)
        pydicom: Any = require("pydicom", "medical")
        groups: dict[str, list[Path]] = defaultdict(list)
        for path in files_under(self.path):
            if path.name.upper().startswith("DICOMDIR"):
                continue  # an index of the files, which are found without it
            try:
                header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_SEEN)
                key = str(header.get("SeriesInstanceUID") or path)
            except (pydicom.errors.InvalidDicomError, OSError, ValueError, AttributeError, KeyError, EOFError):
                key = str(path)  # reading it again says what is wrong
            groups[key].append(path)
        return sorted(tuple(paths) for paths in groups.values())

    def row(self, unit: Unit) -> dict[str, Any]:
        """One series."""
        slices = [_opened(path) for path in unit]
        first = slices[0]
        if len(slices) == 1 and int(first.get("NumberOfFrames") or 1) > 1:
            frames = _frames(first)
        else:
            slices = _in_order(slices)
            first = slices[0]
            frames = _stacked(slices)
        voxels, rescaled, spacing, origin, direction = frames
        series = hashlib.sha256(str(first.get("SeriesInstanceUID", unit[0])).encode()).hexdigest()[:16]
        row: dict[str, Any] = {
            "series": series,
            "modality": _text(first, "Modality"),
            "body_part": _text(first, "BodyPartExamined"),
        }
        row |= {"slices": int(voxels.shape[0]), "rescaled": rescaled}
        row |= encode_volume(voxels, spacing, origin, direction)
        return row | {tag: _text(first, tag) for tag in self.tags}


def _base_fields() -> pa.Schema:
    text = pa.string()
    columns = [("series", text), ("modality", text), ("body_part", text), ("slices", pa.int32())]
    return pa.schema([*(pa.field(*c) for c in [*columns, ("rescaled", pa.bool_())]), *volume_fields()])


def _opened(path: Path) -> Any:
    pydicom: Any = require("pydicom", "medical")
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
    except pydicom.errors.InvalidDicomError as error:
        raise Unreadable("not a DICOM file") from error
    except (OSError, ValueError, AttributeError, KeyError, EOFError) as error:
        raise Unreadable(f"damaged DICOM file {path.name}: {error}") from error
    if "Rows" not in header or "Columns" not in header:
        raise Unreadable(f"{path.name} holds no image ({_text(header, 'Modality') or 'no modality'})")
    if int(header.get("SamplesPerPixel", 1)) != 1:
        raise Unreadable(f"{path.name} holds a colour image; a volume has one value a voxel")
    return header


def _text(header: Any, keyword: str) -> str | None:
    value = header.get(keyword)
    return None if value is None or str(value) == "" else str(value)


def _pixels(header: Any) -> np.ndarray:
    """The stored values; read again from the file, so that no more than one slice's are in memory."""
    pydicom: Any = require("pydicom", "medical")
    try:
        return np.asarray(pydicom.dcmread(header.filename).pixel_array)
    except Exception as error:
        name = Path(str(header.filename)).name
        raise Unreadable(f"the pixels of {name} cannot be decoded: {str(error).splitlines()[0]}") from error


def _numbers(header: Any, keyword: str, count: int) -> np.ndarray | None:
    value = header.get(keyword)
    try:
        found = np.array([float(v) for v in value], float) if value is not None else np.empty(0)
    except (TypeError, ValueError):
        return None
    return found if found.shape == (count,) and np.isfinite(found).all() else None


def _plane(header: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors of slices, rows and columns: the directions in which each index grows."""
    orientation = _numbers(header, "ImageOrientationPatient", 6)
    if orientation is None:
        raise Unreadable("a slice has no orientation in the patient (ImageOrientationPatient)")
    along_columns, along_rows = orientation[:3], orientation[3:]
    if abs(along_columns @ along_rows) > 1e-3 or not np.allclose(
        np.linalg.norm([along_columns, along_rows], axis=1), 1, atol=1e-3
    ):
        raise Unreadable("the axes of the slice plane are not perpendicular unit vectors")
    return np.cross(along_columns, along_rows), along_rows, along_columns


def _in_order(slices: list[Any]) -> list[Any]:
    """The slices sorted along the normal; raises when they are not one regular stack."""
    if len(slices) == 1:
        return slices
    first = slices[0]
    normal = _plane(first)[0]
    places = []
    for header in slices:
        position = _numbers(header, "ImagePositionPatient", 3)
        if position is None:
            raise Unreadable("a slice has no position in the patient (ImagePositionPatient)")
        if (header.Rows, header.Columns) != (first.Rows, first.Columns):
            sizes = f"{first.Rows} x {first.Columns} and {header.Rows} x {header.Columns}"
            raise Unreadable(f"slices of different sizes: {sizes}")
        if not np.allclose(_plane(header)[0], normal, atol=1e-3):
            raise Unreadable("slices of different orientations (a scout image in the series?)")
        if not np.allclose(_pixel_spacing(header), _pixel_spacing(first), rtol=1e-3):
            raise Unreadable("slices of different pixel spacings")
        places.append(float(position @ normal))
    order = np.argsort(places, kind="stable")
    steps = np.diff(np.asarray(places)[order])
    usual = float(np.median(steps))
    if (steps < max(1e-3, 1e-3 * usual)).any():
        raise Unreadable(f"a slice is there twice, at {np.asarray(places)[order][int(np.argmin(steps))]:.2f} mm")
    if (steps > usual * (1 + GAP_TOLERANCE)).any() or (steps < usual * (1 - GAP_TOLERANCE)).any():
        at = int(np.argmax(np.abs(steps - usual)))
        raise Unreadable(
            f"a slice is missing, or slices are unevenly spaced: {steps[at]:.2f} mm behind slice {at + 1} of "
            f"{len(slices)}, usually {usual:.2f} mm"
        )
    return [slices[index] for index in order]


def _pixel_spacing(header: Any) -> np.ndarray:
    found = _numbers(header, "PixelSpacing", 2)
    if found is None or not (found > 0).all():
        raise Unreadable("a slice has no pixel spacing (PixelSpacing)")
    return found


_Volume = tuple[np.ndarray, bool, np.ndarray, np.ndarray, np.ndarray]


def _stacked(slices: list[Any]) -> _Volume:
    first = slices[0]
    origin = _numbers(first, "ImagePositionPatient", 3)
    if origin is None:
        raise Unreadable("a slice has no position in the patient (ImagePositionPatient)")
    scales = [_scale(header) for header in slices]
    dtype = _dtype(slices, scales)
    voxels = np.empty((len(slices), int(first.Rows), int(first.Columns)), dtype)
    for number, (header, (slope, intercept)) in enumerate(zip(slices, scales, strict=True)):
        pixels = _pixels(header)
        if pixels.shape != voxels.shape[1:]:
            raise Unreadable(f"expected slices of {voxels.shape[1:]} pixels, received {pixels.shape}")
        voxels[number] = pixels if (slope, intercept) == (1, 0) else _rescaled(pixels, slope, intercept, dtype)
    normal, along_rows, along_columns = _plane(first)
    if len(slices) > 1:
        last = _numbers(slices[-1], "ImagePositionPatient", 3)
        assert last is not None  # checked when the slices were put in order
        step = float((last - origin) @ normal) / (len(slices) - 1)
    else:
        step = float(first.get("SpacingBetweenSlices") or first.get("SliceThickness") or 1)
    spacing = np.array([step, *_pixel_spacing(first)])
    return voxels, any(s != (1, 0) for s in scales), spacing, origin, np.stack([normal, along_rows, along_columns], 1)


def _frames(header: Any) -> _Volume:
    """A file with many frames: only if its header says where they lie."""
    shared = (header.get("SharedFunctionalGroupsSequence") or [None])[0]
    each = list(header.get("PerFrameFunctionalGroupsSequence") or ())
    if shared is None or not each:
        raise Unreadable("many frames in one file without their places in space (PerFrameFunctionalGroupsSequence)")

    def group(frame: Any, sequence: str) -> Any:
        found = frame.get(sequence) or shared.get(sequence)
        if not found:
            raise Unreadable(f"a frame has no {sequence}")
        return found[0]

    planes = [group(frame, "PlanePositionSequence") for frame in each]
    positions = np.array([_numbers(plane, "ImagePositionPatient", 3) for plane in planes], float)
    normal, along_rows, along_columns = _plane(group(each[0], "PlaneOrientationSequence"))
    places = positions @ normal
    order = np.argsort(places, kind="stable")
    steps = np.diff(places[order])
    usual = float(np.median(steps)) if len(steps) else 1.0
    if not np.isfinite(steps).all() or (np.abs(steps - usual) > GAP_TOLERANCE * usual).any() or usual <= 0:
        raise Unreadable("frames are missing, doubled or unevenly spaced")
    pixels = _pixels(header)[order]
    sequence = "PixelValueTransformationSequence"
    scales = {_scale(found[0]) if (found := f.get(sequence) or shared.get(sequence)) else _scale(header) for f in each}
    if len(scales) > 1:
        raise Unreadable("frames of different rescaling")
    slope, intercept = scales.pop()
    if (slope, intercept) != (1, 0):
        pixels = _rescaled(
            pixels, slope, intercept, _target(pixels.dtype, [(slope, intercept)], pixels.min(), pixels.max())
        )
    spacing = np.array([usual, *_pixel_spacing(group(each[0], "PixelMeasuresSequence"))])
    direction = np.stack([normal, along_rows, along_columns], 1)
    return pixels, (slope, intercept) != (1, 0), spacing, positions[order[0]], direction


def _scale(header: Any) -> tuple[float, float]:
    slope, intercept = header.get("RescaleSlope"), header.get("RescaleIntercept")
    return float(1 if slope is None else slope), float(0 if intercept is None else intercept)


def _dtype(slices: list[Any], scales: list[tuple[float, float]]) -> np.dtype:
    """The voxel type that holds every possible stored value, rescaled."""
    first = slices[0]
    bits, signed = int(first.get("BitsStored", 16)), int(first.get("PixelRepresentation", 0))
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    stored = np.dtype(f"{'i' if signed else 'u'}{max(1, int(first.get('BitsAllocated', 16)) // 8)}")
    return _target(stored, scales, low, high)


def _target(stored: np.dtype, scales: list[tuple[float, float]], low: float, high: float) -> np.dtype:
    if all(scale == (1, 0) for scale in scales):
        return stored
    ends = [slope * value + intercept for slope, intercept in scales for value in (low, high)]
    whole = all(float(number).is_integer() for scale in scales for number in scale)
    return np.dtype(np.int16 if whole and min(ends) >= -(2**15) and max(ends) < 2**15 else np.float32)


def _rescaled(pixels: np.ndarray, slope: float, intercept: float, dtype: np.dtype) -> np.ndarray:
    if dtype.kind == "i":
        return (pixels.astype(np.int32) * int(slope) + int(intercept)).astype(dtype)
    return (pixels.astype(np.float32) * np.float32(slope) + np.float32(intercept)).astype(dtype)
