"""The nine tasks of GLUE: columns, classes, files, sizes, metrics, and whose data each is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class GlueTask:
    """One task.

    Attributes:
        part: the task's folder in ``nyu-mll/glue``.
        folder: its folder in the benchmark's own download.
        texts: column to the header of the TSV files that it stands under.
        labels: class names in id order; empty for a number.
        label: header of the label in the TSV files.
        metrics: what the benchmark scores it by, as our tasks call them; the first decides.
        rows: rows of train, validation and test.
        files: split to TSV file.
        parquet: split to the split's name in ``nyu-mll/glue``.
        headless: the splits whose TSV files have no header; ``header`` is theirs.
    """

    part: str
    folder: str
    title: str
    texts: Mapping[str, str]
    labels: tuple[str, ...]
    label: str = "label"
    metrics: tuple[str, ...] = ("accuracy",)
    rows: tuple[int, int, int]
    license: str
    citation: str
    homepage: str
    notes: str = ""
    files: Mapping[str, str] = field(
        default_factory=lambda: {"train": "train.tsv", "validation": "dev.tsv", "test": "test.tsv"}
    )
    parquet: Mapping[str, str] = field(default_factory=lambda: {s: s for s in ("train", "validation", "test")})
    headless: frozenset[str] = frozenset()
    header: tuple[str, ...] = ()


_SENTENCES = {"sentence1": "sentence1", "sentence2": "sentence2"}
_ENTAILMENT = ("entailment", "not_entailment")
_MNLI_LABELS = ("entailment", "neutral", "contradiction")
_MNLI_TEXTS = {"premise": "sentence1", "hypothesis": "sentence2"}
_MNLI_LICENSE = (
    "Per genre: OANC's licence (free for any use) for most, CC BY-SA 3.0, CC BY 3.0 and the public domain for fiction; "
    "the authors' paper has the list."
)
_MNLI_CITATION = (
    "Williams, A., Nangia, N. & Bowman, S.R. (2018). A Broad-Coverage Challenge Corpus for Sentence Understanding "
    "through Inference. NAACL-HLT 2018, 1112-1122."
)
_MNLI_PAGE = "https://cims.nyu.edu/~sbowman/multinli/"

TASKS: dict[str, GlueTask] = {
    "glue-cola": GlueTask(
        part="cola",
        folder="CoLA",
        title="GLUE CoLA: is a sentence grammatical",
        texts={"sentence": "sentence"},
        labels=("unacceptable", "acceptable"),
        metrics=("matthews_correlation",),
        rows=(8_551, 1_043, 1_063),
        license=(
            "Sentences quoted from works on linguistics, whose copyright stays with authors and publishers; offered "
            "for research as fair use."
        ),
        citation=(
            "Warstadt, A., Singh, A. & Bowman, S.R. (2019). Neural Network Acceptability Judgments. TACL 7, 625-641."
        ),
        homepage="https://nyu-mll.github.io/CoLA/",
        headless=frozenset({"train", "validation"}),
        header=("source", "label", "mark", "sentence"),
    ),
    "glue-sst2": GlueTask(
        part="sst2",
        folder="SST-2",
        title="GLUE SST-2: sentiment of movie-review phrases",
        texts={"sentence": "sentence"},
        labels=("negative", "positive"),
        rows=(67_349, 872, 1_821),
        license="None stated by its authors.",
        citation=(
            "Socher, R. et al. (2013). Recursive Deep Models for Semantic Compositionality Over a Sentiment Treebank. "
            "EMNLP 2013, 1631-1642."
        ),
        homepage="https://nlp.stanford.edu/sentiment/",
        notes="Training rows are phrases, of which many are parts of others; held-out rows are whole sentences.",
    ),
    "glue-mrpc": GlueTask(
        part="mrpc",
        folder="MRPC",
        title="GLUE MRPC: do two sentences mean the same",
        texts={"sentence1": "#1 String", "sentence2": "#2 String"},
        labels=("not_equivalent", "equivalent"),
        label="Quality",
        metrics=("f1", "accuracy"),
        rows=(3_668, 408, 1_725),
        license="Microsoft Research's licence for the corpus; not hosted by GLUE itself.",
        citation=(
            "Dolan, W.B. & Brockett, C. (2005). Automatically Constructing a Corpus of Sentential Paraphrases. Third "
            "International Workshop on Paraphrasing (IWP2005)."
        ),
        homepage="https://www.microsoft.com/en-us/download/details.aspx?id=52398",
        notes=(
            "The folder may hold train.tsv, dev.tsv and test.tsv, or the corpus itself (msr_paraphrase_train.txt, "
            "msr_paraphrase_test.txt) with dev_ids.tsv. The corpus and the hub have labels for the test rows too."
        ),
    ),
    "glue-qqp": GlueTask(
        part="qqp",
        folder="QQP",
        title="GLUE QQP: do two questions ask the same",
        texts={"question1": "question1", "question2": "question2"},
        labels=("not_duplicate", "duplicate"),
        label="is_duplicate",
        metrics=("f1", "accuracy"),
        rows=(363_846, 40_430, 390_965),
        license="Quora's terms of service: non-commercial use.",
        citation="Iyer, S., Dandekar, N. & Csernai, K. (2017). First Quora Dataset Release: Question Pairs.",
        homepage="https://quoradata.quora.com/First-Quora-Dataset-Release-Question-Pairs",
        notes="A few lines of the TSV files lack cells; they are put among the rejects.",
    ),
    "glue-stsb": GlueTask(
        part="stsb",
        folder="STS-B",
        title="GLUE STS-B: how alike two sentences are, 0 to 5",
        texts=_SENTENCES,
        labels=(),
        label="score",
        metrics=("pearson", "spearman"),
        rows=(5_749, 1_500, 1_379),
        license="Of several sources (news, captions, forums), mostly CC BY-SA; the homepage has the list.",
        citation=(
            "Cer, D., Diab, M., Agirre, E., Lopez-Gazpio, I. & Specia, L. (2017). SemEval-2017 Task 1: Semantic "
            "Textual Similarity. SemEval-2017, 1-14."
        ),
        homepage="https://ixa2.si.ehu.eus/stswiki/index.php/STSbenchmark",
    ),
    "glue-mnli": GlueTask(
        part="mnli",
        folder="MNLI",
        title="GLUE MNLI: does a premise entail a hypothesis, matched genres",
        texts=_MNLI_TEXTS,
        labels=_MNLI_LABELS,
        label="gold_label",
        rows=(392_702, 9_815, 9_796),
        license=_MNLI_LICENSE,
        citation=_MNLI_CITATION,
        homepage=_MNLI_PAGE,
        notes="Held-out rows of genres that training has; glue-mnli-mismatched has those of others.",
        files={"train": "train.tsv", "validation": "dev_matched.tsv", "test": "test_matched.tsv"},
        parquet={"train": "train", "validation": "validation_matched", "test": "test_matched"},
    ),
    "glue-mnli-mismatched": GlueTask(
        part="mnli",
        folder="MNLI",
        title="GLUE MNLI: the held-out rows of genres that training lacks",
        texts=_MNLI_TEXTS,
        labels=_MNLI_LABELS,
        label="gold_label",
        rows=(0, 9_832, 9_847),
        license=_MNLI_LICENSE,
        citation=_MNLI_CITATION,
        homepage=_MNLI_PAGE,
        notes="No training rows: score a model that was trained on glue-mnli.",
        files={"validation": "dev_mismatched.tsv", "test": "test_mismatched.tsv"},
        parquet={"validation": "validation_mismatched", "test": "test_mismatched"},
    ),
    "glue-qnli": GlueTask(
        part="qnli",
        folder="QNLI",
        title="GLUE QNLI: does a sentence answer a question",
        texts={"question": "question", "sentence": "sentence"},
        labels=_ENTAILMENT,
        rows=(104_743, 5_463, 5_463),
        license="CC BY-SA 4.0 (SQuAD).",
        citation=(
            "Rajpurkar, P., Zhang, J., Lopyrev, K. & Liang, P. (2016). SQuAD: 100,000+ Questions for Machine "
            "Comprehension of Text. EMNLP 2016, 2383-2392."
        ),
        homepage="https://rajpurkar.github.io/SQuAD-explorer/",
        notes="The second version of the task (QNLIv2).",
    ),
    "glue-rte": GlueTask(
        part="rte",
        folder="RTE",
        title="GLUE RTE: does a text entail a sentence",
        texts=_SENTENCES,
        labels=_ENTAILMENT,
        rows=(2_490, 277, 3_000),
        license="None stated by its authors.",
        citation=(
            "Dagan, I., Glickman, O. & Magnini, B. (2006). The PASCAL Recognising Textual Entailment Challenge; "
            "Bar-Haim et al. (2006); Giampiccolo et al. (2007); Bentivogli et al. (2009)."
        ),
        homepage="https://aclweb.org/aclwiki/Recognizing_Textual_Entailment",
    ),
    "glue-wnli": GlueTask(
        part="wnli",
        folder="WNLI",
        title="GLUE WNLI: what a pronoun stands for",
        texts=_SENTENCES,
        labels=("not_entailment", "entailment"),
        rows=(635, 71, 146),
        license="CC BY 4.0 (Winograd Schema Challenge).",
        citation=(
            "Levesque, H.J., Davis, E. & Morgenstern, L. (2012). The Winograd Schema Challenge. KR 2012, 552-561."
        ),
        homepage="https://cs.nyu.edu/~davise/papers/WinogradSchemas/WS.html",
        notes=(
            "Its validation rows share sentences with training rows of the other label, so that models score below "
            "chance; most papers leave the task out."
        ),
    ),
}
