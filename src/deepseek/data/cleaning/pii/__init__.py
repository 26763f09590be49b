"""Personal data in texts: found by rule and checksum, then masked, rejected or only reported."""

from deepseek.data.cleaning.pii.config import PII_KINDS, PIIConfig
from deepseek.data.cleaning.pii.finding import Finding, find_pii, mask_pii

__all__ = ["PII_KINDS", "Finding", "PIIConfig", "find_pii", "mask_pii"]
