"""Images: what is damaged is rejected, equal pixels and look-alikes are found, different pictures are not."""

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageEnhance

from deepseek.data import CleaningConfig, Table, clean, clean_table, datasets

CONFIG = CleaningConfig(image="image")


def encode(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photo(seed, size=(160, 120)):
    """A smooth random picture in colour."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def reasons(result):
    return [
        (row["input_row"], row["reason"], row["duplicate_of"])
        for row in result.rejected.drop_columns("image").to_pylist()
    ]


def cleaned(images, config=CONFIG, **columns):
    data = pa.table({"image": pa.array(images, pa.binary()), **columns})
    names = {name: name if name in columns else None for name in ("label", "split")}
    return clean(data, config, text=None, **names)


def test_damaged_images_are_rejected_with_a_reason():
    good = encode(photo(0))
    bomb = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + (2**30).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    result = cleaned([good, None, b"", b"not an image", good[: len(good) // 2], bomb, encode(photo(1))])
    assert reasons(result) == [
        (1, "missing image", None),
        *((row, "image cannot be decoded", None) for row in (2, 3, 4, 5)),
    ]


def test_equal_pixels_in_other_files_are_exact_duplicates():
    picture = photo(0)
    deep = Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16)
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 270 degrees for display
    images = [encode(picture), encode(picture, "BMP"), encode(picture, compress_level=0), encode(turned, exif=exif), encode(deep), encode(deep, "TIFF")]  # fmt: skip
    result = cleaned(images)
    assert reasons(result) == [(row, "exact duplicate image", 0) for row in (1, 2, 3)] + [
        (5, "exact duplicate image", 4)
    ]


def test_look_alikes_are_found_and_others_are_not():
    pictures = [photo(seed) for seed in range(40)]
    first = pictures[7]
    copies = [
        encode(first.resize((80, 60))), encode(first.resize((240, 180))), encode(first, "JPEG", quality=40),
        encode(ImageEnhance.Brightness(first).enhance(1.1)), encode(ImageEnhance.Contrast(first).enhance(0.9)),
        encode(first, "WEBP", quality=60), encode(first.crop((3, 2, 157, 118))),
    ]  # fmt: skip
    result = cleaned([*(encode(picture) for picture in pictures), *copies])
    assert reasons(result) == [(row, "near duplicate image", 7) for row in range(40, 47)]
    assert cleaned([encode(first), copies[0]], CleaningConfig(image="image", near_images=None)).rejected.num_rows == 0


def test_one_shape_in_two_colours_is_not_a_duplicate():
    def disc(colour):
        image = Image.new("RGB", (64, 64), "white")
        image.paste(colour, (16, 16, 48, 48))
        return encode(image)

    assert cleaned([disc("red"), disc("blue"), disc("green")]).rejected.num_rows == 0


def test_labels_and_splits_count_as_for_texts():
    picture, other = photo(0), photo(1)
    small = encode(picture.resize((80, 60)))
    images = [encode(picture), encode(picture), small, encode(other), encode(other), small]
    result = cleaned(
        images, label=["a", "b", "a", "a", "a", "b"], split=["train", "train", "train", "train", "test", "test"]
    )
    assert reasons(result) == [
        (0, "conflicting labels of one image", None),
        (1, "conflicting labels of one image", 0),
        (2, "leakage: image equals a held-out one", 5),
        (3, "leakage: image equals a held-out one", 4),
    ]
    near = cleaned([encode(picture), small], split=["train", "validation"])
    assert reasons(near) == [(0, "leakage: image nearly equals a held-out one", 1)]


def test_many_blank_images_stay_cheap_and_a_stored_table_agrees(tmp_path):
    blank = [encode(Image.new("L", (16 + n % 50, 16), 250)) for n in range(200)]
    data = pa.table({"image": pa.array([*blank, encode(photo(3))], pa.binary())})
    expected = clean(data, CONFIG, text=None, label=None)
    assert expected.kept.num_rows == 2
    stored, report = clean_table(
        Table.create(tmp_path / "raw.lance", data), tmp_path / "clean.lance", CONFIG, text=None, label=None
    )
    assert stored.to_arrow()["image"].to_pylist() == expected.kept["image"].to_pylist()
    assert report == expected.report


def test_real_pictures_with_known_copies():
    rows = list(datasets.load_dataset_rows("emoji-google"))
    images = [row["image"] for row in rows][::12]
    changed = []
    for image in images:
        picture = Image.open(io.BytesIO(image)).convert("RGBA")
        page = Image.new("RGBA", picture.size, "white")
        page.alpha_composite(picture)
        changed.append(encode(page.convert("RGB").resize((48, 48)), "JPEG", quality=80))
    count = len(images)
    result = cleaned([*images, *changed])
    found = {row: other for row, _, other in reasons(result)}
    # a copy may repeat a picture that looks like its original: that one is then a duplicate, too
    right = sum(found.get(count + n) in (n, found.get(n)) for n in range(count))
    assert right >= 0.97 * count
    assert sum(row < count for row in found) < 0.08 * count  # pictures that differ in a detail only, such as skin tones


VECTORS = CleaningConfig(vector="vector", near_vectors=0.95)


def test_vectors_against_all_pairs(tmp_path):
    random = np.random.default_rng(0)
    base = random.standard_normal((300, 24))
    copies = base[::3] + random.standard_normal((100, 24)) * 0.25 * random.random((100, 1))
    vectors = np.concatenate([base, copies]).astype(np.float32)
    data = pa.table({"vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 24)})
    result = clean(data, VECTORS, text=None, label=None)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    expected = {}
    for row in range(len(vectors)):
        kept = [other for other in range(row) if other not in expected and cosines[row, other] >= 0.95]
        if kept:
            expected[row] = kept[0]
    found = {row["input_row"]: row["duplicate_of"] for row in result.rejected.to_pylist()}
    assert found == expected
    assert len(found) > 50
    stored, report = clean_table(
        Table.create(tmp_path / "raw.lance", data), tmp_path / "clean.lance", VECTORS, text=None, label=None
    )
    assert report == result.report
    assert len(stored) == result.kept.num_rows


def test_vectors_that_cannot_be_compared_are_rejected():
    data = pa.table({"vector": pa.array([[1.0, 0.0], None, [np.nan, 1.0], [0.0, 0.0], [2.0, 0.0], [1.0, None]])})
    result = clean(data, VECTORS, text=None, label=None)
    assert [(row["input_row"], row["reason"]) for row in result.rejected.to_pylist()] == [
        (1, "missing vector"),
        (2, "vector is not finite"),
        (3, "vector is zero"),
        (4, "near duplicate vector"),
        (5, "vector is not finite"),
    ]


def test_vectors_of_different_lengths_are_an_error():
    with pytest.raises(ValueError, match="vectors of one length"):
        clean(pa.table({"vector": [[1.0, 0.0], [1.0]]}), VECTORS, text=None, label=None)
