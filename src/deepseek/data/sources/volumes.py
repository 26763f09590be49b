"""How a volume lies in a table, and volumes from NIfTI and NRRD files.

One encoding for all medical formats, in the columns of :func:`volume_fields`:

- ``volume``: the voxels, little-endian, in C order of ``shape``; :func:`decode_volume` gives the array back, uncopied;
- ``dtype``: NumPy's name of the voxel type, such as ``int16``;
- ``shape``: slices, rows, columns; a fourth axis (time, channels) comes first;
- ``spacing``: millimetres from voxel to voxel along each spatial axis, in the order slices, rows, columns;
- ``origin``: the place of voxel (0, 0, 0) in millimetres, x, y, z in the patient system LPS (x to the left, y to the
  back, z to the head), which DICOM and ITK use; NIfTI's RAS is converted;
- ``direction``: nine numbers, a 3 x 3 matrix row by row, whose column k is the LPS unit vector of axis k (slices, rows,
  columns), so that place = origin + direction @ (spacing * index), all in array order.

The voxel memory that a file's reader returns becomes the column's memory: a volume is in memory once.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from deepseek.data.sources.file_rows import FileRows, Unit, Unreadable, files_under
from deepseek.errors import DataError, require

_LPS_FROM_RAS = np.array([-1.0, -1.0, 1.0])


def volume_fields() -> list[pa.Field]:
    """The columns that hold a volume."""
    numbers = pa.list_(pa.float64())
    kinds = {"volume": pa.large_binary(), "dtype": pa.string(), "shape": pa.list_(pa.int64())}
    kinds |= {"spacing": numbers, "origin": numbers, "direction": numbers}
    return [pa.field(name, kind) for name, kind in kinds.items()]


def encode_volume(voxels: np.ndarray, spacing: np.ndarray, origin: np.ndarray, direction: np.ndarray) -> dict[str, Any]:
    """The values of :func:`volume_fields`; copies the voxels only if they are not little-endian in C order."""
    kind = voxels.dtype.newbyteorder("<")
    array = np.ascontiguousarray(voxels, dtype=kind)
    return {
        "volume": array,
        "dtype": kind.name,
        "shape": list(array.shape),
        "spacing": [float(value) for value in spacing],
        "origin": [float(value) for value in origin],
        "direction": [float(value) for value in np.asarray(direction).ravel()],
    }


def decode_volume(row: Mapping[str, Any]) -> np.ndarray:
    """The voxels of a row, a read-only array over the row's own bytes (copy it to change it).

    Args:
        row: at least ``volume``, ``dtype`` and ``shape``, as Python values or Arrow scalars.

    Raises:
        DataError: a column is missing, or the bytes are not as many as type and shape need.
    """
    if missing := [name for name in ("volume", "dtype", "shape") if row.get(name) is None]:
        raise DataError(f"expected a volume's columns volume, dtype and shape; {missing[0]!r} is missing")
    data, shape = row["volume"], row["shape"]
    if isinstance(data, pa.Scalar):
        data = data.as_buffer()
    dtype = np.dtype(str(row["dtype"])).newbyteorder("<")
    shape = tuple(int(size) for size in (shape.as_py() if isinstance(shape, pa.Scalar) else shape))
    expected = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    received = memoryview(data).nbytes
    if received != expected:
        raise DataError(f"a volume of {shape} {dtype.name}: expected {expected:,} bytes, received {received:,}")
    return np.frombuffer(data, dtype).reshape(shape)


def index_to_place(row: Mapping[str, Any]) -> np.ndarray:
    """The 4 x 4 matrix from (slice, row, column, 1) to LPS millimetres (x, y, z, 1)."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(row["direction"], (3, 3)) * np.asarray(row["spacing"])
    matrix[:3, 3] = row["origin"]
    return matrix


class VolumeFiles(FileRows):
    """A volume file, or a folder of them, one row each: ``path`` (below the folder) and :func:`volume_fields`."""

    part_units: ClassVar[int] = 4
    suffixes: ClassVar[tuple[str, ...]] = ()

    def schema(self) -> pa.Schema:
        """The columns, the same for every folder."""
        return pa.schema([pa.field("path", pa.string()), *volume_fields()])

    def find(self) -> list[Unit]:
        """The file itself, or the files of the format under the folder."""
        if not self.path.exists():
            raise DataError(f"there is no file or folder {self.path}")
        if self.path.is_file():
            return [(self.path,)]
        return [(path,) for path in files_under(self.path) if path.name.lower().endswith(self.suffixes)]

    def row(self, unit: Unit) -> dict[str, Any]:
        """One volume."""
        path = unit[0]
        shown = path.relative_to(self.path).as_posix() if path != self.path else path.name
        return {"path": shown} | self.read(path)

    def read(self, path: Path) -> dict[str, Any]:
        """The volume's columns; raises :class:`Unreadable` with the reason."""
        raise NotImplementedError


class NRRD(VolumeFiles):
    """NRRD files (``.nrrd``, ``.nhdr``), as ITK and 3D Slicer write them."""

    suffixes = (".nrrd", ".nhdr")

    def read(self, path: Path) -> dict[str, Any]:
        """One NRRD volume."""
        return read_nrrd(path)


def read_nrrd(path: Path) -> dict[str, Any]:
    """The columns of an NRRD file's volume; raises :class:`Unreadable` with the reason."""
    nrrd: Any = require("nrrd", "medical")
    try:
        voxels, header = nrrd.read(str(path), index_order="F")
    except (nrrd.NRRDError, OSError, ValueError, KeyError, zlib.error, EOFError) as error:
        raise Unreadable(f"not a readable NRRD file: {error}") from error
    if voxels.ndim not in (3, 4):
        raise Unreadable(f"expected a volume of 3 or 4 axes, received {voxels.ndim}")
    steps = _nrrd_steps(header, voxels.ndim)
    if voxels.ndim == 4 and np.isnan(steps[0]).all():
        voxels, steps = np.moveaxis(voxels, 0, -1), np.roll(steps, -1, axis=0)  # the list axis comes first here
    if not np.isfinite(steps[:3]).all():
        raise Unreadable("its header gives neither space directions nor spacings for three spatial axes")
    origin = np.nan_to_num(np.asarray(header.get("space origin", np.zeros(3)), float))
    flip = _nrrd_flip(str(header.get("space", "left-posterior-superior")))
    return _spatial(voxels, steps[:3] * flip, origin * flip)


def _nrrd_steps(header: Mapping[str, Any], axes: int) -> np.ndarray:
    """The step in millimetres along each file axis, shape (axes, 3); NaN for axes that are not spatial."""
    if header.get("space directions") is not None:
        return np.array([[np.nan] * 3 if v is None else v for v in header["space directions"]], float)
    steps = np.full((axes, 3), np.nan)
    spacings = header.get("spacings", np.ones(axes))
    for axis in range(min(3, axes)):
        steps[axis] = np.eye(3)[axis] * float(spacings[axis])
    return steps


def _nrrd_flip(space: str) -> np.ndarray:
    name = space.lower()
    if name in {"left-posterior-superior", "lps"}:
        return np.ones(3)
    if name in {"right-anterior-superior", "ras"}:
        return _LPS_FROM_RAS
    if name in {"left-anterior-superior", "las"}:
        return np.array([1.0, -1.0, 1.0])
    raise Unreadable(f"expected the space left-posterior-superior or right-anterior-superior, received {space!r}")


class NIfTI(VolumeFiles):
    """NIfTI files (``.nii``, ``.nii.gz``); stored integers are kept where the header scales them by nothing."""

    suffixes = (".nii", ".nii.gz")

    def read(self, path: Path) -> dict[str, Any]:
        """One NIfTI volume."""
        nibabel: Any = require("nibabel", "medical")
        try:
            image = nibabel.load(path)
            slope, inter = image.dataobj.slope, image.dataobj.inter
            scaled = (slope, inter) != (1, 0)
            voxels = image.get_fdata(dtype=np.float32, caching="unchanged") if scaled else np.asanyarray(image.dataobj)
        except (nibabel.filebasedimages.ImageFileError, OSError, ValueError, EOFError, zlib.error) as error:
            raise Unreadable(f"not a readable NIfTI file: {error}") from error
        if voxels.ndim not in (3, 4):
            raise Unreadable(f"expected a volume of 3 or 4 axes, received {voxels.ndim}")
        if voxels.dtype.fields is not None or voxels.dtype.kind == "c":
            raise Unreadable(f"expected real voxels, received {voxels.dtype}")
        return _spatial(voxels, image.affine[:3, :3].T * _LPS_FROM_RAS, image.affine[:3, 3] * _LPS_FROM_RAS)


def _spatial(voxels: np.ndarray, steps: np.ndarray, origin: np.ndarray) -> dict[str, Any]:
    """Columns of an array in file order (x, y, z[, t]) with the LPS step of each spatial axis as a row of ``steps``."""
    spacing = np.linalg.norm(steps, axis=1)
    if not (spacing > 0).all():
        raise Unreadable("an axis of the volume has no extent in space")
    units = steps / spacing[:, None]
    # readers return Fortran order, whose transpose is the same memory in C order, slices first
    return encode_volume(voxels.T, spacing[::-1], origin, units[::-1].T)
