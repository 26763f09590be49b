"""Chest CT and brain MR volumes with segmented lesions: the test cases of ``pyradiomics`` (NRRD).

Read from the source release as data; no code of the package is touched. One row is one image with its mask on the same
grid; the volume's columns are those of :mod:`deepseek.data.sources.volumes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from deepseek.artifacts import PackageFile, unpack
from deepseek.data.datasets.card import Dataset, DatasetCard, Line, origin_of

ARCHIVE = PackageFile(
    project="pyradiomics",
    version="3.0.1",
    filename="pyradiomics-3.0.1.tar.gz",
    sha256="47c57f441d6cb7973fa3b2ea48d3948df78e3348e1c69e1e2ff19001601fc2f5",
    license="BSD-3-Clause",
)
_NUMBERS = "list<double>"
_COLUMNS = {
    "id": "string",
    "modality": "string",
    "volume": "large_binary",
    "dtype": "string",
    "shape": "list<int64>",
    "spacing": _NUMBERS,
    "origin": _NUMBERS,
    "direction": _NUMBERS,
    "mask": "large_binary",
    "mask_dtype": "string",
}


def folder() -> str:
    """The folder with the unpacked NRRD files; fetches them at first use."""
    return str(unpack(ARCHIVE, "pyradiomics-3.0.1/data"))


def _lines(cases: tuple[str, ...], modality: str) -> Iterator[Line]:
    from deepseek.data.sources.file_rows import Unreadable
    from deepseek.data.sources.volumes import read_nrrd

    root = unpack(ARCHIVE, "pyradiomics-3.0.1/data")
    for number, case in enumerate(cases, start=1):
        try:
            image, label = (read_nrrd(root / f"{case}_{kind}.nrrd") for kind in ("image", "label"))
        except Unreadable as problem:
            yield Line(number=number, problem=str(problem), raw=case)
            continue
        if image["shape"] != label["shape"]:
            yield Line(number=number, problem="the mask has another shape than the image", raw=case)
            continue
        mask = {"mask": label["volume"].data.cast("B"), "mask_dtype": label["dtype"]}
        image["volume"] = image["volume"].data.cast("B")
        yield Line(number=number, values={"id": case, "modality": modality, **image, **mask})


def _dataset(name: str, title: str, cases: tuple[str, ...], modality: str, notes: str) -> Dataset:
    card = DatasetCard(
        name=name,
        title=title,
        license=ARCHIVE.license,
        citation=(
            "van Griethuysen, J.J.M. et al. (2017). Computational Radiomics System to Decode the Radiographic "
            "Phenotype. Cancer Research 77(21), e104-e107."
        ),
        homepage="https://github.com/AIM-Harvard/pyradiomics",
        columns=_COLUMNS,
        language="",
        rows=len(cases),
        origin=origin_of(ARCHIVE),
        notes=notes,
    )
    return Dataset(card=card, read=partial(_lines, cases, modality))


LUNG_CT = _dataset(
    "radiology-lung-ct",
    "Chest CT with a segmented tumour",
    ("lung1", "lung2"),
    "CT",
    "Two patients, Hounsfield units, masks with the label 1 for the tumour: enough to test with, not to train on.",
)
BRAIN_MR = _dataset(
    "radiology-brain-mr",
    "Brain MR with a segmented tumour",
    ("brain1", "brain2"),
    "MR",
    "Two patients, masks with the label 1 for the tumour: enough to test with, not to train on.",
)
