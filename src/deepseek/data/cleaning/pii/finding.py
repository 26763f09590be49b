"""Finding personal data in a text and masking it.

Where numbers carry a checksum or validity rules, those decide: Luhn and the issuers' ranges for payment cards, GB
11643 and a real date of birth for Chinese resident identity numbers, the Social Security Administration's rules for US
ones, ``ipaddress`` for addresses, ``phonenumbers`` (Google's metadata) for phone numbers. What stays ambiguous needs
context: ten digits in a row are a phone number only after a word such as "tel" or "电话", and ``1.2.3.4`` is an address
only where nothing says that it is a version.

Full-width digits and signs, other scripts' digits and typographic hyphens count as their ASCII forms; they are
compared one character to one, so that positions stay those of the text.

Not covered: names, street addresses, 15-digit Chinese numbers (no checksum), addresses written as "name at host".
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from deepseek.data.cleaning.pii.config import PII_KINDS, Kind, PIIConfig
from deepseek.data.cleaning.pii.numbers import find_card, find_id_cn, find_id_us
from deepseek.data.cleaning.pii.reach import find_email, find_ip, find_phone

Span = tuple[int, int]


class Finding(NamedTuple):
    """Where in the text something personal stands (``text[start:end]``), and what it is."""

    start: int
    end: int
    kind: Kind


class _Plain(dict[int, str]):
    """Maps each character to the ASCII character that it stands for, or to itself; remembers what it saw."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if (
            0xFF01 <= code <= 0xFF5E and character not in "，：；！？"
        ):  # those are Chinese punctuation, parts of no number
            plain = chr(code - 0xFEE0)
        elif unicodedata.category(character) == "Nd":
            plain = str(unicodedata.decimal(character))
        elif unicodedata.category(character) == "Pd" or code == 0x2212:
            plain = "-"
        elif unicodedata.category(character) == "Zs":
            plain = " "
        else:
            plain = character
        self[code] = plain
        return plain


_PLAIN = _Plain()

# Earlier kinds win where findings overlap: the more a kind is verified, the earlier it stands.
_ORDER: tuple[Kind, ...] = ("email", "id_cn", "card", "ip", "id_us", "phone")


def find_pii(text: str, config: PIIConfig | None = None) -> list[Finding]:
    """What the text contains, in order and without overlaps.

    Raises:
        MissingExtraError: the extra ``clean`` is not installed.
    """
    config = config or PIIConfig()
    plain = text if text.isascii() else text.translate(_PLAIN)
    # an address of letters alone (ffff:ffff:...) has seven colons, if none of its groups are left out by "::"
    address = "::" in plain or plain.count(":") >= 7
    if not any(character.isdigit() for character in plain) and "@" not in plain and not address:
        return []
    found: list[Finding] = []
    for kind in _ORDER:
        if kind in config.kinds:
            for start, end in _spans(kind, plain, config.regions):
                if all(end <= other.start or start >= other.end for other in found):
                    found.append(Finding(start, end, kind))
    return sorted(found)


def mask_pii(text: str, config: PIIConfig | None = None) -> tuple[str, list[Kind]]:
    """The text with everything personal replaced, and the kinds that were replaced, one entry a replacement.

    Nothing else changes, and masking a masked text changes nothing: it is repeated until nothing is found, because a
    replacement can free what stood beside it.
    """
    kinds: list[Kind] = []
    while found := find_pii(text, config):
        parts, end = [], 0
        for finding in found:
            parts += [text[end : finding.start], PII_KINDS[finding.kind]]
            end = finding.end
            kinds.append(finding.kind)
        text = "".join(parts) + text[end:]
    return text, kinds


def _spans(kind: Kind, plain: str, regions: Sequence[str]) -> Iterator[Span]:
    match kind:
        case "email":
            return find_email(plain)
        case "phone":
            return find_phone(plain, regions)
        case "card":
            return find_card(plain)
        case "id_cn":
            return find_id_cn(plain)
        case "id_us":
            return find_id_us(plain)
        case "ip":
            return find_ip(plain)
