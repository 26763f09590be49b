"""Cleaning: quality checks, duplicates, contradictions and leakage, with a report and nothing lost silently."""

from deepseek.data.cleaning.balance import BalanceConfig, ClassBalance, class_balance
from deepseek.data.cleaning.config import CleaningConfig
from deepseek.data.cleaning.label_errors import LabelErrorConfig, LabelErrors, find_label_errors
from deepseek.data.cleaning.language import LanguageConfig, detect_languages
from deepseek.data.cleaning.model_steps import MARKS
from deepseek.data.cleaning.outliers import Outlier, OutlierConfig, find_outliers
from deepseek.data.cleaning.pii import PIIConfig, find_pii, mask_pii
from deepseek.data.cleaning.pipeline import REJECT_FIELDS, CleaningResult, clean, clean_table
from deepseek.data.cleaning.quality import QualityConfig, quality_problem
from deepseek.data.cleaning.report import CleaningReport, Example, StepReport

__all__ = [
    "MARKS",
    "REJECT_FIELDS",
    "BalanceConfig",
    "ClassBalance",
    "CleaningConfig",
    "CleaningReport",
    "CleaningResult",
    "Example",
    "LabelErrorConfig",
    "LabelErrors",
    "LanguageConfig",
    "Outlier",
    "OutlierConfig",
    "PIIConfig",
    "QualityConfig",
    "StepReport",
    "class_balance",
    "clean",
    "clean_table",
    "detect_languages",
    "find_label_errors",
    "find_outliers",
    "find_pii",
    "mask_pii",
    "quality_problem",
]
