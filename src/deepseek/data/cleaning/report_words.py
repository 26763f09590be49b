"""The words of the report page, in English and Chinese.

English is the key of everything (``report_words.zh.json`` has the Chinese); what has no translation, such as a user's
label or a measured value, is shown as it is.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from pathlib import Path

from deepseek.errors import UnknownNameError

_ENGLISH = {
    "email": "e-mail address",
    "phone": "phone number",
    "card": "payment card",
    "id_cn": "identity number, China",
    "id_us": "social security number, US",
    "ip": "IP address",
    "und": "undecided",
}
_PATTERNS = (
    (re.compile(r"shorter than (\d+) characters"), r"少于 \1 个字符"),
    (re.compile(r"longer than (\d+) characters"), r"多于 \1 个字符"),
    (re.compile(r"outlier in (.+)"), r"\1 列的异常值"),
    (re.compile(r"unusual combination of (.+)"), r"\1 的罕见组合"),
    (re.compile(r"one sequence of (\d+) words"), r"同一个 \1 词序列过多"),
)

LANGUAGES = ("en", "zh")


def words(lang: str) -> Callable[[str], str]:
    """The translation of English words into a language.

    Raises:
        UnknownNameError: there is no such language.
    """
    if lang not in LANGUAGES:
        raise UnknownNameError("report language", lang, LANGUAGES)
    return _chinese if lang == "zh" else lambda english: _ENGLISH.get(english, english)


def _chinese(english: str) -> str:
    if (known := _translations().get(english)) is not None:
        return known
    for pattern, chinese in _PATTERNS:
        if pattern.fullmatch(english):
            return pattern.sub(chinese, english)
    return english


@functools.cache
def _translations() -> dict[str, str]:
    path = Path(__file__).with_name("report_words.zh.json")
    return dict(json.loads(path.read_text(encoding="utf-8")))
