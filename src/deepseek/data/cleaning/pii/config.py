"""Which personal data to look for, and what to do with it."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator

Kind: TypeAlias = Literal["email", "phone", "card", "id_cn", "id_us", "ip"]

PII_KINDS: dict[Kind, str] = {
    "email": "[EMAIL]",
    "phone": "[PHONE]",
    "card": "[CARD]",
    "id_cn": "[ID_CN]",
    "id_us": "[ID_US]",
    "ip": "[IP]",
}
"""Each kind and what stands for it in a masked text."""


class PIIConfig(BaseModel):
    """Masking of e-mail addresses, phone numbers, payment cards, identity numbers of China and the US, IP addresses."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kinds: tuple[Kind, ...] = Field(default=tuple(PII_KINDS), min_length=1, description="What to look for.")
    action: Literal["mask", "reject", "report"] = Field(
        default="mask",
        description="Replace what is found by [EMAIL], [PHONE], [CARD], [ID_CN], [ID_US] or [IP]; reject such rows; or "
        "only count them.",
    )
    regions: tuple[str, ...] = Field(
        default=("CN", "US"),
        description="Countries (ISO 3166, two letters) whose phone numbers are found without a country code; numbers "
        "that begin with + are found for every country.",
    )

    @field_validator("regions")
    @classmethod
    def _two_letters(cls, regions: tuple[str, ...]) -> tuple[str, ...]:
        for region in regions:
            if len(region) != 2 or not region.isascii() or not region.isalpha() or not region.isupper():
                raise ValueError(f"regions: expected two capital letters such as 'CN', received {region!r}")
        return regions
