"""One sample of every registered source, with rows that can be read and, where the format allows, rows that cannot."""

from __future__ import annotations

import gzip
import io
import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 3_000
WIDE = "ein längerer Text, damit eine Datei aus mehreren Blöcken besteht; " * 2


@dataclass
class Sample:
    data: Any
    rows: int
    rejects: int = 0
    options: dict[str, Any] = field(default_factory=dict)


def csv_sample(folder: Path, delimiter: str = ",", suffix: str = "csv") -> Sample:
    """Quotes, a broken quote, a short row, bytes that are not UTF-8."""
    quote = '"' if suffix == "csv" else ""
    lines = [f"id{delimiter}x{delimiter}text"]
    bad = 0
    for n in range(ROWS):
        if n % 700 == 7:
            lines.append(f"{n}{delimiter}short")
            bad += 1
        elif n == 1_500 and quote:
            lines.append(f'{n},1.5,"closed"too early')
            bad += 1
        else:
            lines.append(f"{n}{delimiter}{n / 4}{delimiter}{quote}{WIDE}{n}{quote}")
    raw = "\n".join(lines).encode() + b"\n1" + delimiter.encode() * 2 + b"\xff\n"
    path = folder / f"a.{suffix}"
    path.write_bytes(raw)
    return Sample(path, ROWS - bad, bad + 1)


def jsonl_sample(folder: Path) -> Sample:
    lines = [json.dumps({"id": n, "x": n / 4, "text": WIDE, "tags": ["a"] * (n % 3)}) for n in range(ROWS)]
    lines[900] = "{broken"
    lines[2_700] = json.dumps({"id": "text"})
    path = folder / "a.jsonl"
    path.write_text("\n".join(lines))
    return Sample(path, ROWS - 2, 2)


def table(rows: int = ROWS) -> pa.Table:
    return pa.table({"id": range(rows), "text": [f"row {n}" for n in range(rows)]})


def parquet_sample(folder: Path) -> Sample:
    pq.write_table(table(), folder / "a.parquet", row_group_size=1_000)
    return Sample(folder / "a.parquet", ROWS)


def arrow_sample(folder: Path) -> Sample:
    with pa.OSFile(str(folder / "a.arrow"), "wb") as file, pa.ipc.new_file(file, table().schema) as writer:
        writer.write_table(table(), max_chunksize=2_000)
    return Sample(folder / "a.arrow", ROWS)


def pandas_sample(folder: Path) -> Sample:
    import pandas as pd

    mixed: list[Any] = [f"row {n}" for n in range(ROWS)]
    mixed[1_500] = {"not": "text"}
    return Sample(pd.DataFrame({"id": range(ROWS), "text": mixed}), ROWS - 1, 1)


def png(seed: int, size: int = 16) -> bytes:
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 255, (size, size, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def images_sample(folder: Path) -> Sample:
    root = folder / "pictures"
    for n in range(12):
        path = root / ("cat" if n % 2 else "dog") / f"{n:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(n))
    (root / "cat" / "001.png").write_bytes(png(1)[:200])
    (root / "dog" / "notes.txt").write_text("not an image")
    return Sample(root, 11, 2, {"format": "images"})


def huggingface_sample(folder: Path) -> Sample:
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    splits = {
        name: datasets.Dataset.from_dict(
            {"text": [f"{name} {n}" for n in range(rows)], "label": [n % 2 for n in range(rows)]}, features=features
        )
        for name, rows in (("train", 2_000), ("test", 500))
    }
    datasets.disable_progress_bars()
    datasets.DatasetDict(splits).save_to_disk(str(folder / "saved"), num_shards={"train": 2, "test": 1})
    return Sample(folder / "saved", 2_500)


def sql_sample(folder: Path) -> Sample:
    connection = sqlite3.connect(folder / "a.sqlite")
    connection.execute("CREATE TABLE notes (id INTEGER, text)")
    connection.executemany("INSERT INTO notes VALUES (?, ?)", ((n, f"row {n}") for n in range(ROWS)))
    connection.execute("UPDATE notes SET text = 17 WHERE id = 1500")
    connection.commit()
    connection.close()
    query = "SELECT id, text FROM notes ORDER BY id"
    return Sample(query, ROWS - 1, 1, {"format": "sql", "database": folder / "a.sqlite"})


def voxels(seed: int = 0) -> np.ndarray:
    """Shape (x, y, z) = (5, 4, 3)."""
    return np.random.default_rng(seed).integers(-1000, 1000, (5, 4, 3), np.int16)


def nrrd_sample(folder: Path) -> Sample:
    import nrrd

    header = {
        "space": "left-posterior-superior",
        "space directions": np.diag([0.5, 0.5, 2.0]),
        "space origin": [1, 2, 3],
    }
    for n in range(3):
        nrrd.write(str(folder / f"{n}.nrrd"), voxels(n), header)
    (folder / "9.nrrd").write_bytes((folder / "0.nrrd").read_bytes()[:-40])
    return Sample(folder, 3, 1, {"format": "nrrd"})


def nifti_sample(folder: Path) -> Sample:
    import nibabel

    for n in range(3):
        nibabel.save(nibabel.Nifti1Image(voxels(n), np.diag([0.5, 0.5, 2.0, 1.0])), folder / f"{n}.nii.gz")
    (folder / "9.nii.gz").write_bytes(gzip.compress(b"not a volume"))
    return Sample(folder, 3, 1, {"format": "nifti"})


def dicom_slice(path: Path, z: float, *, series: str = "1.2.3", value: int = 0, **tags: Any) -> None:
    """A CT slice of 4 x 5 pixels, written by pydicom."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID, header.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    header.PatientName, header.PatientID = "Doe^Jane", "4711"
    header.Modality, header.SeriesInstanceUID, header.BodyPartExamined = "CT", series, "CHEST"
    header.ImagePositionPatient = [-10.0, -20.0, z]
    header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    header.PixelSpacing, header.SliceThickness = [0.7, 0.8], 2.5
    header.Rows, header.Columns, header.SamplesPerPixel = 4, 5, 1
    header.PhotometricInterpretation = "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 12, 11, 0
    header.RescaleSlope, header.RescaleIntercept = 1, -1024
    for name, content in tags.items():
        setattr(header, name, content)
    header.PixelData = np.full((header.Rows, header.Columns), value, np.uint16).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)


def dicom_sample(folder: Path) -> Sample:
    for n in range(4):
        dicom_slice(folder / "ct" / f"{9 - n}.dcm", z=2.5 * n, value=n)
        if n != 2:
            dicom_slice(folder / "hole" / f"{n}.dcm", z=2.5 * n, series="1.2.4")
    (folder / "readme.txt").write_text("not DICOM")
    return Sample(folder, 1, 2, {"format": "dicom"})


SAMPLES: dict[str, Callable[[Path], Sample]] = {
    "arrow": arrow_sample,
    "csv": csv_sample,
    "dicom": dicom_sample,
    "huggingface": huggingface_sample,
    "images": images_sample,
    "jsonl": jsonl_sample,
    "nifti": nifti_sample,
    "nrrd": nrrd_sample,
    "pandas": pandas_sample,
    "parquet": parquet_sample,
    "sql": sql_sample,
    "tsv": lambda folder: csv_sample(folder, "\t", "tsv"),
}
