"""Volumes on real data: NRRD, NIfTI and DICOM give the voxels and the places that their own libraries say."""

import gzip
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from source_samples import dicom_slice

from deepseek.data import Table, ingest, open_source
from deepseek.data.datasets import radiology
from deepseek.data.sources.volumes import decode_volume, index_to_place
from deepseek.errors import ConfigError, DataError

nibabel = pytest.importorskip("nibabel")
nrrd = pytest.importorskip("nrrd")
pydicom = pytest.importorskip("pydicom")

RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def lung() -> Path:
    return Path(radiology.folder()) / "lung1_image.nrrd"


def read(data, **options):
    rejects = []
    return list(open_source(data, **options).rows(rejects.append)), rejects


def place(row, slice_, line, column):
    return (index_to_place(row) @ [slice_, line, column, 1])[:3]


def test_a_real_ct_comes_back_as_nrrd_reads_it(lung, tmp_path):
    ingest(lung, tmp_path / "ct.lance")
    row = Table.open(tmp_path / "ct.lance").take([0]).to_pylist()[0]
    voxels, header = nrrd.read(str(lung))
    assert row["path"] == "lung1_image.nrrd"
    assert np.array_equal(decode_volume(row), voxels.T)
    for index in [(0, 0, 0), (47, 511, 3), (10, 20, 30)]:
        expected = header["space origin"] + np.array(index[::-1]) @ header["space directions"]
        assert np.allclose(place(row, *index), expected)


def test_the_same_ct_as_nifti(lung, tmp_path):
    voxels, header = nrrd.read(str(lung))
    affine = np.eye(4)
    affine[:3, :3] = header["space directions"].T
    affine[:3, 3] = header["space origin"]
    nibabel.save(nibabel.Nifti1Image(voxels, RAS_FROM_LPS @ affine), tmp_path / "ct.nii.gz")
    from_nrrd, from_nifti = read(lung)[0][0], read(tmp_path / "ct.nii.gz")[0][0]
    assert from_nifti["volume"] == from_nrrd["volume"]
    assert [from_nifti[name] for name in ("dtype", "shape")] == ["int16", [48, 512, 512]]
    for name in ("spacing", "origin", "direction"):
        assert np.allclose(from_nifti[name], from_nrrd[name], atol=1e-4)
    loaded = nibabel.load(tmp_path / "ct.nii.gz")
    index = (5, 100, 200)
    ras = loaded.affine @ [200, 100, 5, 1]
    assert np.allclose(RAS_FROM_LPS[:3, :3] @ place(from_nifti, *index), ras[:3], atol=1e-3)


def test_nifti_scaling_and_four_axes(tmp_path):
    voxels = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)
    image = nibabel.Nifti1Image(voxels, np.diag([2.0, 3.0, 4.0, 1.0]))
    image.header.set_slope_inter(0.5, 10)
    nibabel.save(image, tmp_path / "t.nii")
    (row,), _ = read(tmp_path / "t.nii")
    assert (row["dtype"], row["shape"], row["spacing"]) == ("float32", [5, 4, 3, 2], [4.0, 3.0, 2.0])
    assert np.allclose(decode_volume(row), nibabel.load(tmp_path / "t.nii").get_fdata().T)


def test_oblique_axes_big_endian_and_ras_nrrd(tmp_path):
    turned = np.array([[0.8, 0.6, 0], [-0.6, 0.8, 0], [0, 0, 1]]) * [[2], [3], [4]]
    voxels = np.arange(24, dtype=">i2").reshape(2, 3, 4)
    header = {
        "space": "right-anterior-superior",
        "space directions": turned,
        "space origin": [1, 2, 3],
        "endian": "big",
    }
    nrrd.write(str(tmp_path / "a.nrrd"), voxels, header)
    (row,), _ = read(tmp_path / "a.nrrd")
    assert np.array_equal(decode_volume(row), voxels.T.astype("<i2"))
    assert np.allclose(row["spacing"], [4, 3, 2])
    ras = np.array([1, 2, 3]) + np.array([1, 2, 3]) @ turned
    assert np.allclose(place(row, 3, 2, 1), ras * [-1, -1, 1])


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.nrrd", b"NRRD0004\n", "not a readable NRRD file"),
        ("a.nrrd", b"\x00" * 100, "not a readable NRRD file"),
        ("a.nii", b"\x00" * 400, "not a readable NIfTI file"),
        ("a.nii.gz", gzip.compress(b"x" * 400, mtime=0)[:50], "not a readable NIfTI file"),
    ],
)
def test_damaged_volumes_are_rejects(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    rows, rejects = read(tmp_path / name)
    assert rows == []
    assert rejects[0].reason.startswith(reason)
    with pytest.raises(DataError, match=reason):
        list(open_source(tmp_path / name).rows())


def test_flat_and_unplaced_volumes_are_rejects(tmp_path):
    nrrd.write(str(tmp_path / "flat.nrrd"), np.zeros((4, 5), np.int16))
    nrrd.write(
        str(tmp_path / "space.nrrd"), np.zeros((2, 2, 2)), {"space": "scanner-xyz", "space directions": np.eye(3)}
    )
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2), np.int16), np.eye(4)), tmp_path / "flat.nii")
    reasons = {r.reason for r in read(tmp_path, format="nrrd")[1]} | {
        r.reason for r in read(tmp_path, format="nifti")[1]
    }
    assert any("received 2" in reason for reason in reasons)
    assert any("scanner-xyz" in reason for reason in reasons)
    assert len(reasons) == 2


def test_a_volume_is_in_memory_once(lung, monkeypatch):
    given = []
    original = nrrd.read
    monkeypatch.setattr(nrrd, "read", lambda *a, **k: given.append(original(*a, **k)) or given[-1])
    batch = next(open_source(lung).batches())
    column = batch.column("volume")
    voxels = np.frombuffer(column.buffers()[2], np.int16)
    assert np.shares_memory(voxels, given[0][0])
    row = batch.to_pylist()[0]
    decoded = decode_volume(row)
    assert np.shares_memory(decoded, np.frombuffer(row["volume"], np.int16))
    assert not decoded.flags.writeable
    assert np.array_equal(decode_volume({name: batch.column(name)[0] for name in batch.schema.names}), decoded)


def test_decode_says_what_is_wrong():
    row = {"volume": b"\0" * 6, "dtype": "int16", "shape": [3]}
    assert decode_volume(row).tolist() == [0, 0, 0]
    with pytest.raises(DataError, match="expected 8 bytes, received 6"):
        decode_volume(row | {"shape": [2, 2]})
    with pytest.raises(DataError, match="'dtype' is missing"):
        decode_volume({"volume": b"", "shape": [0]})


# --- DICOM ---------------------------------------------------------------------------------------------------------


def test_a_series_is_sorted_rescaled_and_placed(tmp_path):
    for n in range(5):
        dicom_slice(tmp_path / f"{(n * 3) % 5}.dcm", z=100 + 2.5 * n, value=1000 + n)
    (row,), rejects = read(tmp_path, format="dicom")
    assert rejects == []
    voxels = decode_volume(row)
    assert (row["dtype"], row["shape"], row["slices"]) == ("int16", [5, 4, 5], 5)
    assert row["rescaled"]
    assert voxels[:, 0, 0].tolist() == [1000 + n - 1024 for n in range(5)]
    assert row["spacing"] == [2.5, 0.7, 0.8]
    assert np.allclose(place(row, 0, 0, 0), [-10, -20, 100])
    assert np.allclose(place(row, 4, 2, 3), [-10 + 3 * 0.8, -20 + 2 * 0.7, 110])
    assert (row["modality"], row["body_part"]) == ("CT", "CHEST")


def test_nothing_that_names_the_patient_gets_into_the_table(tmp_path):
    for n in range(3):
        dicom_slice(tmp_path / "Doe_Jane" / f"{n}.dcm", z=float(n), series="1.2.840.99", PatientBirthDate="19700101")
    ingest(tmp_path, tmp_path / "t.lance", format="dicom")
    stored = b"".join(p.read_bytes() for p in (tmp_path / "t.lance").rglob("*") if p.is_file())
    for secret in (b"Doe", b"Jane", b"4711", b"19700101", b"1.2.840.99"):
        assert secret not in stored.replace(str(tmp_path).encode(), b"")
    (row,), _ = read(tmp_path / "Doe_Jane", format="dicom", tags=["PatientBirthDate", "KVP"])
    assert (row["PatientBirthDate"], row["KVP"]) == ("19700101", None)
    with pytest.raises(ConfigError, match="keywords"):
        open_source(tmp_path, format="dicom", tags=["(0010,0010)"])


def series(folder, change):
    slices = [{"z": 2.5 * n} for n in range(6)]
    change(slices)
    for number, options in enumerate(slices):
        dicom_slice(folder / f"{number}.dcm", **options)
    return read(folder, format="dicom")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s.pop(3), "a slice is missing"),
        (lambda s: s.append({"z": 5.0}), "there twice, at 5.00 mm"),
        (lambda s: s[2].update(Rows=5), "different sizes"),
        (lambda s: s[2].update(PixelSpacing=[0.9, 0.9]), "different pixel spacings"),
        (lambda s: s[0].update(ImageOrientationPatient=[0, 1, 0, 0, 0, 1]), "different orientations"),
        (lambda s: s[1].update(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "not perpendicular"),
        (lambda s: s[2].update(ImagePositionPatient=None), "no position"),
        (lambda s: s[5].update(z=13.5), "unevenly spaced"),
    ],
)
def test_a_series_that_is_no_regular_stack_is_a_reject(tmp_path, change, reason):
    rows, rejects = series(tmp_path, change)
    assert rows == []
    assert reason in rejects[0].reason
    assert rejects[0].source == str(tmp_path)


def test_fractional_rescaling_gives_floats(tmp_path):
    for n in range(2):
        dicom_slice(tmp_path / f"{n}.dcm", z=float(n), value=10, RescaleSlope="0.5", RescaleIntercept="1")
    (row,), _ = read(tmp_path, format="dicom")
    assert (row["dtype"], decode_volume(row)[0, 0, 0]) == ("float32", 6.0)


def test_pydicoms_own_files(tmp_path):
    from pydicom.data import get_testdata_file

    for name in (
        "CT_small.dcm",
        "MR_small.dcm",
        "rtplan.dcm",
        "SC_rgb_small_odd.dcm",
        "rtdose.dcm",
    ):
        shutil.copy(get_testdata_file(name), tmp_path / name)
    (tmp_path / "cut.dcm").write_bytes(Path(get_testdata_file("CT_small.dcm")).read_bytes()[:900])
    rows, rejects = read(tmp_path, format="dicom")
    found = {row["modality"]: row for row in rows}
    ct = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    assert np.array_equal(decode_volume(found["CT"])[0], ct.pixel_array * 1.0 * ct.RescaleSlope + ct.RescaleIntercept)
    assert np.allclose(found["CT"]["origin"], ct.ImagePositionPatient)
    assert np.array_equal(decode_volume(found["MR"])[0], pydicom.dcmread(get_testdata_file("MR_small.dcm")).pixel_array)
    reasons = {Path(reject.source).name: reject.reason for reject in rejects}
    assert "no image (RTPLAN)" in reasons["rtplan.dcm"]
    assert "colour" in reasons["SC_rgb_small_odd.dcm"]
    assert "many frames" in reasons["rtdose.dcm"]
    assert "cut.dcm" in reasons


def test_real_series_of_several_slices(tmp_path):
    from pydicom.data import get_testdata_file

    root = Path(get_testdata_file("DICOMDIR")).parent
    rows, rejects = read(root, format="dicom")
    assert rows
    assert len(rows) + len(rejects) > 3
    for row in rows:
        assert decode_volume(row).shape == tuple(row["shape"])
        assert np.isclose(np.linalg.det(np.reshape(row["direction"], (3, 3))), -1)  # x, y, z is right-handed


def test_schema_is_the_same_for_all_formats():
    columns = ["volume", "dtype", "shape", "spacing", "origin", "direction"]
    for name in ("nrrd", "nifti", "dicom"):
        schema = open_source(".", format=name).schema()
        assert [field for field in schema.names if field in columns] == columns
        assert schema.field("volume").type == pa.large_binary()
