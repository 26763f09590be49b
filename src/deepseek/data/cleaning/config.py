"""What the cleaner does, as one typed description."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deepseek.data.cleaning.balance import BalanceConfig
from deepseek.data.cleaning.label_errors import LabelErrorConfig
from deepseek.data.cleaning.language import LanguageConfig
from deepseek.data.cleaning.outliers import OutlierConfig
from deepseek.data.cleaning.pii.config import PIIConfig
from deepseek.data.cleaning.quality import QualityConfig


class CleaningConfig(BaseModel):
    """Settings of :func:`deepseek.data.clean`; the defaults suit sentence and document classification."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    normalise: bool = Field(
        default=True, description="Put text into Unicode NFC, make every run of whitespace one space, and trim."
    )
    min_chars: int = Field(default=1, ge=1, le=1_000_000, description="Reject texts with fewer characters.")
    max_chars: int = Field(
        default=20_000, ge=1, le=100_000_000, description="Texts with more characters are treated as on_too_long says."
    )
    on_too_long: Literal["reject", "truncate"] = Field(
        default="reject", description="Reject a text that is too long, or keep its first max_chars characters."
    )
    exact_duplicates: bool = Field(
        default=True,
        description="Within a split, keep the first of the rows with one label whose texts differ only in case, "
        "punctuation and spaces.",
    )
    conflicting_labels: Literal["reject", "keep-first"] | None = Field(
        default="reject",
        description="One text with different labels in a split: reject all of its copies, keep the first, or null to "
        "leave them.",
    )
    near_duplicates: float | None = Field(
        default=0.8,
        ge=0.3,
        le=1.0,
        description="Within a split, rows of one label whose character shingles have at least this Jaccard similarity "
        "are duplicates; also used between splits for leakage. Null turns both off.",
    )
    shingle_chars: int = Field(default=5, ge=1, le=50, description="Length of the shingles, in characters.")
    leakage: bool = Field(
        default=True, description="Remove training rows that equal, or nearly equal, a row of any other split."
    )
    image: str | None = Field(
        default=None,
        description="The column with encoded images (PNG, JPEG, ... as bytes) to check and to compare; null for none.",
    )
    near_images: int | None = Field(
        default=8,
        ge=0,
        le=16,
        description="Images whose 64-bit perceptual hashes differ in at most so many bits, and whose thumbnails agree, "
        "are duplicates; also used between splits for leakage. Null turns it off.",
    )
    vector: str | None = Field(
        default=None,
        description="The column with embeddings (a list of floats for each row) to compare; null for none.",
    )
    near_vectors: float | None = Field(
        default=0.98,
        ge=0.5,
        le=1.0,
        description="Rows whose embeddings have at least this cosine similarity are duplicates; also used "
        "between splits for leakage. Null turns it off.",
    )
    quality: QualityConfig | None = Field(
        default=None, description="Rules against damaged, repetitive and meaningless texts; null for none."
    )
    language: LanguageConfig | None = Field(
        default=None, description="Keep the rows that are written in some languages; null keeps all."
    )
    pii: PIIConfig | None = Field(
        default=None, description="Mask personal data (e-mail, phone, cards, ids, IP addresses); null leaves it."
    )
    outliers: OutlierConfig | None = Field(
        default=None, description="Flag unusual numbers, texts or vectors; null does not look for them."
    )
    label_errors: LabelErrorConfig | None = Field(
        default=None, description="Flag labels that are probably wrong; null does not look for them."
    )
    balance: BalanceConfig | None = Field(
        default=None, description="Report the class balance, and cap frequent labels if asked; null does neither."
    )
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="Seed of everything that is drawn by chance.")

    @model_validator(mode="after")
    def _bounds_agree(self) -> CleaningConfig:
        if self.min_chars > self.max_chars:
            raise ValueError(f"expected min_chars <= max_chars, received {self.min_chars} > {self.max_chars}")
        return self

    def between_splits(self) -> CleaningConfig:
        """The settings for rows that were cleaned before they were split: what looks at one row or label is off."""
        off = dict.fromkeys(("quality", "language", "pii", "outliers", "label_errors", "balance"))
        return self.model_copy(update=off)
