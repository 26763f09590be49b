"""Numbers that prove themselves: payment cards, resident identity numbers of China, social security numbers of the US.

All functions take a text in which digits are ASCII and yield spans ``(start, end)``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

from deepseek.errors import require

# A number stands alone: no digit, letter, or digit group with a separator directly around it. Chinese characters may
# touch it, since Chinese puts no spaces, and so may commas, since columns of a CSV line have none either.
BEFORE = r"(?<![0-9A-Za-z_])(?<![0-9][./*-])(?<![$€£¥₹])"
AFTER = r"(?![0-9A-Za-z_])(?![./*-][0-9])"

_CARD = re.compile(
    BEFORE + r"(?:\d{12,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?|\d{4}([ -])\d{6}\2\d{4,5})" + AFTER
)
_ISSUERS: tuple[tuple[str, int, int, frozenset[int]], ...] = (
    ("American Express", 34, 34, frozenset({15})),
    ("American Express", 37, 37, frozenset({15})),
    ("Diners Club", 300, 305, frozenset(range(14, 20))),
    ("Diners Club", 3095, 3095, frozenset(range(14, 20))),
    ("Diners Club", 36, 36, frozenset(range(14, 20))),
    ("Diners Club", 38, 39, frozenset(range(14, 20))),
    ("Discover", 6011, 6011, frozenset(range(16, 20))),
    ("Discover", 644, 649, frozenset(range(16, 20))),
    ("Discover, RuPay, Troy", 65, 65, frozenset(range(16, 20))),
    ("JCB", 3528, 3589, frozenset(range(16, 20))),
    ("Maestro", 5018, 5018, frozenset(range(12, 20))),
    ("Maestro", 5020, 5020, frozenset(range(12, 20))),
    ("Maestro", 5038, 5038, frozenset(range(12, 20))),
    ("Maestro", 5893, 5893, frozenset(range(12, 20))),
    ("Maestro", 6304, 6304, frozenset(range(12, 20))),
    ("Maestro", 6759, 6763, frozenset(range(12, 20))),
    ("Mastercard", 51, 55, frozenset({16})),
    ("Mastercard", 2221, 2720, frozenset({16})),
    ("Mir", 2200, 2204, frozenset(range(16, 20))),
    ("RuPay", 508, 508, frozenset({16})),
    ("RuPay", 81, 82, frozenset(range(16, 20))),
    ("Troy", 9792, 9792, frozenset({16})),
    ("UnionPay", 62, 62, frozenset(range(16, 20))),
    ("Visa", 4, 4, frozenset({13, 16, 19})),
)
"""Issuer, first and last prefix, lengths (ISO/IEC 7812; the issuers' published ranges)."""

_ID_CN = re.compile(r"(?<![0-9A-Za-z_])(\d{17}[0-9Xx])(?![0-9A-Za-z_])")
_PROVINCES = frozenset(
    {*range(11, 16), *range(21, 24), *range(31, 38), *range(41, 47), *range(50, 55), *range(61, 66), 71, 81, 82, 83, 91}
)
"""First two digits by GB/T 2260."""

_SSN = re.compile(BEFORE + r"\d{3}([- ])\d{2}\1\d{4}" + AFTER)
_SSN_BARE = re.compile(BEFORE + r"\d{9}" + AFTER)
_SSN_WORDS = re.compile(r"\b(?:ssn|social[ -]security)\b[^0-9]{0,20}$", re.IGNORECASE)


def find_card(text: str) -> Iterator[tuple[int, int]]:
    """Payment cards: an issuer's prefix and length, and a right Luhn digit."""
    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match.group())
        if _issued(digits) and require("stdnum.luhn", "clean").is_valid(digits):
            yield match.span()


def _issued(digits: str) -> bool:
    return any(
        len(digits) in lengths and first <= int(digits[: len(str(first))]) <= last
        for _issuer, first, last, lengths in _ISSUERS
    )


def find_id_cn(text: str) -> Iterator[tuple[int, int]]:
    """Chinese resident identity numbers (GB 11643): province, a real date of birth, and a right check character."""
    for match in _ID_CN.finditer(text):
        number = match.group(1).upper()
        if int(number[:2]) not in _PROVINCES or not "1900" <= number[6:10] <= "2099":
            continue
        try:
            date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
        except ValueError:
            continue
        if require("stdnum.cn.ric", "clean").calc_check_digit(number) == number[-1]:
            yield match.span()


def find_id_us(text: str) -> Iterator[tuple[int, int]]:
    """US social security numbers by the rules of area, group and serial; nine bare digits only after the words."""
    is_valid = require("stdnum.us.ssn", "clean").is_valid
    for match in _SSN.finditer(text):
        if is_valid(match.group().replace(" ", "-")):
            yield match.span()
    for match in _SSN_BARE.finditer(text):
        if _SSN_WORDS.search(text[max(0, match.start() - 60) : match.start()]) and is_valid(match.group()):
            yield match.span()
