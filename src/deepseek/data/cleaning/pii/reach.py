"""How a person or a machine is reached: e-mail addresses, phone numbers, IP addresses.

All functions take a text in which digits are ASCII and yield spans ``(start, end)``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence

from deepseek.errors import require

# Letters of Latin scripts only: in Chinese text the address is followed by a character without a space between.
_LOCAL = "A-Za-z0-9\u00c0-\u024f_"
_EMAIL = re.compile(
    rf"(?<![{_LOCAL}])[{_LOCAL}](?:[{_LOCAL}.%+'&=~-]{{0,62}}[{_LOCAL}+-])?"
    rf"@(?:[A-Za-z0-9\u00c0-\u024f](?:[A-Za-z0-9\u00c0-\u024f-]{{0,61}}[A-Za-z0-9\u00c0-\u024f])?\.){{1,8}}"
    r"(?:xn--[A-Za-z0-9-]{1,59}|[A-Za-z]{2,24})(?![A-Za-z0-9-]|\.[A-Za-z0-9]|@)"
)

_PHONE_MAYBE = re.compile(r"\d(?:[ ()./~-]{0,3}\d){6}")
_PHONE_WORDS = re.compile(
    r"(?:\b(?:tel|tél|telephone|phone|ph|call|fax|mobile|mob|cell|whatsapp|wechat|sms|text|dial|contact)\b"
    r"|电话|手机|联系|致电|传真|热线|微信|拨打|電話|手機|聯繫|傳真)[^0-9+]{0,20}$",
    re.IGNORECASE,
)
_AREA_CODE = re.compile(r"\(\+?\d{1,5}\)")
_CN_MOBILE = re.compile(r"1[3-9]\d{9}")
# The usual forms, tried first: the library's own search takes digits of the next word for a part of the number.
_USUAL = {
    "CN": re.compile(
        r"(?<![0-9A-Za-z_+])(?:(?:\+|00)?86[ -]?)?1[3-9]\d([ -]?)\d{4}\1\d{4}(?![0-9A-Za-z_])(?![.:/*-]\d)"
    ),
    "US": re.compile(
        r"(?<![0-9A-Za-z_+])(?:\+?1[ .-]?)?(?:\(\d{3}\) ?\d{3}[ .-]|\d{3}([ .-])\d{3}\1)\d{4}"
        r"(?![0-9A-Za-z_])(?![.:/*-]\d)"
    ),
}
_WITH_DOTS = re.compile(r"(?:\+?\d{1,3}[ .-])?\(?\d{2,4}\)?\.\d{3,4}\.\d{3,4}")
_DATE = re.compile(r"(?:19|20)\d\d[-./ ]?(?:0[1-9]|1[0-2])[-./ ]?(?:0[1-9]|[12]\d|3[01])")
_NOT_A_NUMBER_BEFORE = re.compile(
    r"(?:[A-Za-z_#$€£¥₹]|[0-9][.:/*-]"
    r"|\b(?:isbn|issn|id|no|nr|order|invoice|ref|doi|arxiv|pmid|sku|upc|ean)\b[.:#\s]*|订单号?|编号|单号|号码牌|[¥￥]\s*)$",
    re.IGNORECASE,
)

_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = re.compile(rf"(?<![0-9A-Za-z_])(?<![0-9][.])(?<![.]){_OCTET}(?:\.{_OCTET}){{3}}(?![0-9A-Za-z_])(?!\.[0-9])")
_IPV6 = re.compile(
    r"(?<![0-9A-Za-z_:.])(?:[0-9A-Fa-f]{1,4}:|:(?=:)|::?){1,8}"
    rf"(?:{_OCTET}(?:\.{_OCTET}){{3}}|[0-9A-Fa-f]{{0,4}})(?![0-9A-Za-z_:])(?!\.[0-9])"
)
_VERSION_BEFORE = re.compile(
    r"(?:\b(?:version|versions|ver|v|release|rel|rev|revision|build|firmware|driver|patch|update|section|sec|chapter"
    r"|figure|table|clause|article|paragraph)[.:]?\s*#?|[A-Za-z]/|§\s*|版本号?\s*[:：]?\s*|第\s*|[<>=~^]=?)$",
    re.IGNORECASE,
)
_ADDRESS_BEFORE = re.compile(
    r"(?:\b(?:ip|ips|ipv4|address|addr|host|server|ping|ssh|dns|gateway|subnet|from|client|proxy|router)\b|地址|服务器"
    r"|主机|网关|//|@)[^0-9]{0,12}$",
    re.IGNORECASE,
)


def find_email(text: str) -> Iterator[tuple[int, int]]:
    """E-mail addresses with a full domain; ``root@localhost`` and ``@name`` are none."""
    if "@" in text:
        for match in _EMAIL.finditer(text):
            if ".." not in match.group():
                yield match.span()


def find_phone(text: str, regions: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Phone numbers that ``phonenumbers`` holds for valid, unless they look like something else."""
    if not _PHONE_MAYBE.search(text):
        return
    phonenumbers = require("phonenumbers", "clean")
    text = _without_brackets(text)
    taken: list[tuple[int, int]] = []
    for region, usual in _USUAL.items():
        for match in usual.finditer(text):
            if (region in regions or match.group().startswith("+")) and _is_valid(match.group(), region):
                span = match.span()
                if all(span[1] <= start or span[0] >= end for start, end in taken) and _is_phone(text, *span):
                    taken.append(span)
                    yield span
    for region in regions or ("ZZ",):  # ZZ: no country, so that only numbers with + are found
        for match in phonenumbers.PhoneNumberMatcher(text, region, leniency=phonenumbers.Leniency.VALID):
            span = (match.start, match.end)
            if all(span[1] <= start or span[0] >= end for start, end in taken) and _is_phone(text, *span):
                taken.append(span)
                yield span


def _is_valid(raw: str, region: str) -> bool:
    phonenumbers = require("phonenumbers", "clean")
    try:
        return bool(phonenumbers.is_valid_number(phonenumbers.parse(raw, region)))
    except phonenumbers.NumberParseException:
        return False


def _without_brackets(text: str) -> str:
    """Round brackets that hold no area code become spaces, since an unpaired one hides a number from the library."""
    if "(" not in text and ")" not in text:
        return text
    codes = {place for match in _AREA_CODE.finditer(text) for place in (match.start(), match.end() - 1)}
    return "".join(" " if c in "()" and place not in codes else c for place, c in enumerate(text))


def _is_phone(text: str, start: int, end: int) -> bool:
    raw = text[start:end]
    before, after = text[max(0, start - 40) : start], text[end : end + 2]
    if re.match(r"[0-9A-Za-z_%]|[.:/*-][0-9]", after):
        return False
    digits = re.sub(r"\D", "", raw)
    if len(digits) < 7 or _NOT_A_NUMBER_BEFORE.search(before):
        return False
    if raw.startswith("+") or _PHONE_WORDS.search(before):
        return True
    if before.endswith("+"):
        return False
    if raw.isdigit():  # eleven digits are no date, even where the first eight could be one: 19912311000
        return _CN_MOBILE.fullmatch(raw) is not None
    if _DATE.match(raw) or ("." in raw and not _WITH_DOTS.fullmatch(raw)):
        return False
    # "3.14159 26535": a number with dots has to have them as separators of groups, three groups or more
    groups = re.findall(r"\d+", raw)
    return len(digits) >= 10 and len(groups) >= (2 if "(" in raw or raw.startswith("0") or "-" in raw else 3)


def find_ip(text: str) -> Iterator[tuple[int, int]]:
    """IPv4 and IPv6 addresses; four small numbers with dots are a version unless the context says address."""
    if ":" in text:
        for match in _IPV6.finditer(text):
            if _is_ipv6(match.group()):
                yield match.span()
    for match in _IPV4.finditer(text):
        before = text[max(0, match.start() - 24) : match.start()]
        if _VERSION_BEFORE.search(before):
            continue
        small = all(len(octet) == 1 for octet in match.group().split("."))
        port = re.match(r":\d{2,5}\b|/\d{1,2}\b", text[match.end() :])
        if not small or port or _ADDRESS_BEFORE.search(before):
            yield match.span()


def _is_ipv6(raw: str) -> bool:
    groups = [group for group in raw.split(":") if group]
    # "std::", "a::b" and "::" are code more often than addresses
    if not groups or (len(groups) < 3 and not any(map(str.isdigit, raw))):
        return False
    try:
        return ipaddress.ip_address(raw).version == 6
    except ValueError:
        return False
