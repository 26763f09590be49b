"""Pictures in every form, small networks trained on them, served, and what cannot be read."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from deepseek.bundles import Bundle, write_bundle
from deepseek.errors import ConfigError, DataError
from deepseek.inference import Predictor, evaluate
from deepseek.models import from_config, from_pretrained, processor_for
from deepseek.tasks.image_classification import ImageClassification
from deepseek.tasks.images.augmentation import augment
from deepseek.training import TrainingRecipe, fit

SIZE = 32


def png(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def stripes(direction: str, seed: int) -> Image.Image:
    """Noisy stripes of 4 pixels."""
    random = np.random.default_rng(seed)
    wave = (np.arange(SIZE) // 4 + seed) % 2 * 120 + random.integers(0, 60)
    grey = np.broadcast_to(wave[:, None] if direction == "across" else wave[None, :], (SIZE, SIZE))
    return Image.fromarray((grey[..., None] + random.integers(0, 40, (SIZE, SIZE, 3))).astype(np.uint8))


ROWS = [{"image": png(stripes(d, i)), "label": d} for i in range(12) for d in ("across", "down")]


def processor() -> Any:
    return transformers.ViTImageProcessorPil(size={"height": SIZE, "width": SIZE})


def network(kind: str, **overrides: Any) -> Any:
    torch.manual_seed(0)
    configs: dict[str, Any] = {
        "vit": lambda: transformers.ViTConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=SIZE,
            patch_size=8, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        ),
        "resnet": lambda: transformers.ResNetConfig(embedding_size=8, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic"),
        "convnext": lambda: transformers.ConvNextConfig(hidden_sizes=[16, 32], depths=[1, 1], num_stages=2, image_size=SIZE),
    }  # fmt: skip
    return from_config(configs[kind](), head="image-classification", **overrides)


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return stripes("down", 3)


def pixels(value: Any) -> torch.Tensor:
    task = ImageClassification()
    return task.collate(task.prepare([{"image": value}], processor()), processor())["pixel_values"]


def test_every_form_of_a_picture_gives_the_same_pixels(picture: Image.Image, tmp_path: Path) -> None:
    data = png(picture)
    path = tmp_path / "a picture.png"
    path.write_bytes(data)
    text = base64.b64encode(data).decode()
    expected = pixels(picture)
    assert expected.shape == (1, 3, SIZE, SIZE)
    for value in (data, bytearray(data), memoryview(data), path, str(path), text.encode(), f"data:image/png;base64,{text}",
                  f"data:image/png;base64,{text}".encode(), png(picture, "WEBP", lossless=True), png(picture, "BMP")):  # fmt: skip
        assert torch.equal(pixels(value), expected)


def test_transparency_is_white_and_grey_and_palettes_become_colour(picture: Image.Image) -> None:
    clear = Image.new("RGBA", (SIZE, SIZE), (255, 0, 0, 0))
    assert torch.equal(pixels(clear), pixels(Image.new("RGB", (SIZE, SIZE), "white")))
    assert pixels(picture.convert("L")).shape == (1, 3, SIZE, SIZE)
    assert pixels(png(picture.convert("P"))).shape == (1, 3, SIZE, SIZE)


def test_a_cameras_orientation_is_undone(picture: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    turned = png(picture.rotate(180), "PNG", exif=exif)
    assert torch.equal(pixels(turned), pixels(picture))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "received NoneType"),
        (7, "received int"),
        ("", "received str"),
        ("/no/such/file.png", "names no file.*no/such"),
        (b"", "empty"),
        (b"not a picture \x00\x01", "not a picture that can be read.*16 bytes"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
        ("data:image/png;base64,@@@", "no valid base64"),
        (b"/etc/hostname", "base64|not a picture"),  # bytes never name a file
    ],
)
def test_wrong_pictures_are_named(value: Any, said: str) -> None:
    with pytest.raises(DataError, match=f"(?s)row 1: .*({said})"):
        ImageClassification().prepare([ROWS[0], {"image": value}], processor())
    with pytest.raises(DataError, match=r"row 0.*columns other"):
        ImageClassification().prepare([{"other": 1}], processor())


def test_a_damaged_picture_stops_before_training(picture: Image.Image) -> None:
    damaged = {"image": png(picture)[:-200], "label": "down"}
    with pytest.raises(DataError, match="row 1: not a picture"):
        ImageClassification(labels=("across", "down")).encode([ROWS[0], damaged], processor())


def test_too_many_pixels_are_refused(monkeypatch: Any, picture: Image.Image) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match=r"row 0: not a picture.*pixels"):
        ImageClassification().prepare([{"image": picture}], processor())


def test_labels_are_learned_and_checked() -> None:
    task = ImageClassification().fitted(ROWS)
    assert task.labels == ("across", "down")
    with pytest.raises(DataError, match="two labels"):
        ImageClassification().fitted(ROWS[::2])
    with pytest.raises(DataError, match="row 0: expected a string in 'label', received 3"):
        task.encode([{**ROWS[0], "label": 3}], processor())
    with pytest.raises(DataError, match=r"row 0: expected one of 'across', 'down'.*'up'"):
        task.encode([{**ROWS[0], "label": "up"}], processor())


def test_features_are_small_and_plain() -> None:
    task = ImageClassification().fitted(ROWS)
    feature = task.encode(ROWS[:1], processor())[0]
    assert json.loads(json.dumps(feature)) == feature
    assert len(feature["image"]) < 2 * len(ROWS[0]["image"])
    assert task.length(feature) == 1
    assert task.class_counts(task.encode(ROWS, processor())) == [12, 12]


def test_augmentation_mirrors_and_crops() -> None:
    batch = torch.rand(64, 3, 16, 16)
    torch.manual_seed(0)
    mirrored = augment(batch, flip=True, crop=0.0)
    flips = [torch.allclose(a, b.flip(-1), atol=1e-5) for a, b in zip(mirrored, batch, strict=True)]
    same = [torch.allclose(a, b, atol=1e-5) for a, b in zip(mirrored, batch, strict=True)]
    assert all(f != s for f, s in zip(flips, same, strict=True))
    assert 16 < sum(flips) < 48
    torch.manual_seed(0)
    ramp = torch.linspace(0, 1, 16).repeat(64, 1, 16, 1)
    cropped = augment(ramp, flip=False, crop=0.5)
    spans = cropped[:, 0, 0, -1] - cropped[:, 0, 0, 0]
    assert (spans < 1.01).all()
    assert (spans > 0.45).all()
    assert spans.std() > 0.05
    torch.manual_seed(0)
    assert torch.equal(cropped, augment(ramp, flip=False, crop=0.5))
    task = ImageClassification(labels=("across", "down"), flip=True, crop=0.2)
    features = task.encode(ROWS[:4], processor())
    assert not torch.equal(*(task.collate_training(features, processor())["pixel_values"] for _ in range(2)))
    assert not task.cacheable
    assert ImageClassification().cacheable


@pytest.mark.parametrize("kind", ["vit", "resnet", "convnext"])
def test_networks_train_from_scratch_and_their_bundles_answer(kind: str, tmp_path: Path) -> None:
    task = ImageClassification().fitted(ROWS)
    recipe = TrainingRecipe(
        task={"name": "image-classification"},
        training={"epochs": 20, "batch_size": 8, "learning_rate": 3e-3, "precision": "float32"},
    )
    model = network(kind, **task.model_options())
    result = fit(model, ROWS, recipe, tokenizer=processor())
    bundle = write_bundle(
        tmp_path / "b",
        model=model,
        tokenizer=processor(),
        task=result.task,
        name="stripes",
        base_model=kind,
        license="MIT",
    )
    predictor = Predictor.load(bundle.path)
    unseen = [{"image": png(stripes(d, 100 + i)), "label": d} for i in range(8) for d in ("across", "down")]
    scores = evaluate(predictor, unseen)
    assert scores["accuracy"] > 0.9
    assert scores["accuracy_low"] <= scores["accuracy"] <= scores["accuracy_high"]
    answer = predictor.predict(unseen[:1])[0]
    assert answer["label"] == "across"
    assert sum(answer["scores"]) == pytest.approx(1, abs=1e-5)
    opened = transformers.AutoModelForImageClassification.from_pretrained(bundle.path).eval()
    with torch.inference_mode():
        theirs = opened(pixels(unseen[0]["image"])).logits.softmax(-1)[0]
    assert theirs.tolist() == pytest.approx(answer["scores"], abs=1e-4)
    plain = Predictor.load(str(bundle.path))
    assert type(Bundle.open(bundle.path).load_processor()).__name__ == type(plain.tokenizer).__name__
    (bundle.path / "deepseek.json").unlink()  # a folder of transformers alone
    assert Predictor.load(bundle.path).predict(unseen[:1])[0]["label"] == "across"
    other = from_pretrained(bundle.path, head="image-classification", num_labels=3)  # a new head for other labels
    assert other.fresh_modules == ("classifier",)
    assert other.config.num_labels == 3


def test_a_folder_without_an_image_processor(minilm: Path) -> None:
    with pytest.raises(ConfigError, match="no image processor"):
        processor_for(minilm, "image-processor")
    with pytest.raises(ConfigError, match="'sound'"):
        processor_for(minilm, "sound")
    assert processor_for(minilm)("a")["input_ids"]


@pytest.mark.slow
def test_real_emoji_are_told_apart_far_better_than_by_chance() -> None:
    from deepseek.data.datasets import load_dataset_rows

    lines = list(load_dataset_rows("emoji-google"))
    kinds = ("Flags", "Smileys & Emotion", "Animals & Nature", "Travel & Places")
    rows = [r for r in lines if r["label"] in kinds and not r["skin_tone"]]
    rows = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    train, test = rows[: len(rows) * 4 // 5], rows[len(rows) * 4 // 5 :]
    task = ImageClassification(flip=True, crop=0.15).fitted(train)
    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32, 64], depths=[1, 1, 1], layer_type="basic"
    )
    model = from_config(config, head="image-classification", **task.model_options())
    recipe = TrainingRecipe(
        task={"name": "image-classification", "flip": True, "crop": 0.15},
        training={"epochs": 8, "batch_size": 32, "learning_rate": 3e-3, "precision": "float32"},
    )
    small = transformers.ViTImageProcessorPil(size={"height": 48, "width": 48})
    result = fit(model, train, recipe, tokenizer=small)
    from deepseek.inference.torch_runtime import TorchModel

    scores = evaluate(Predictor(name="emoji", task=result.task, tokenizer=small, model=TorchModel(model.eval())), test)
    commonest = max(sum(r["label"] == kind for r in test) for kind in kinds) / len(test)
    assert scores["accuracy_low"] > commonest + 0.2
