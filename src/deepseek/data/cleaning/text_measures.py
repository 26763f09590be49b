"""What can be counted on a text: words, symbols, repetitions, markup, damage. Every share is in [0, 1].

Chinese and Japanese have no spaces, so each of their characters counts as a word; everything else is cut at spaces.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Sequence

_ENGLISH = (
    "the be is are was were been to of and that have has had with a in it for on i you this not but as at by from he "
    "she they we his her their my your or an so if what which who do does did can will would there"
)
STOP_WORDS: dict[str, frozenset[str]] = {
    "en": frozenset(_ENGLISH.split()),
    "zh": frozenset(
        "的了是在我有和不就这那也都很到说要去你会着没看好自己他她它们吗呢吧啊与及其被把对从为而但所以因于之"
    ),
}
"""Words so common that prose of some length has them; lists of keywords and menus do not."""

CJK = re.compile("[\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")
_WORD = re.compile(CJK.pattern + r"|[^\W_]+(?:['’\-][^\W_]+)*")
_MARKUP = re.compile(
    r"<(?:/?[A-Za-z][A-Za-z0-9:-]*(?:\s[^<>]{0,500})?/?|!--.{0,500}?--|!DOCTYPE[^<>]{0,200})>"
    r"|&[a-z]{2,8};|\{\{[^{}]{0,200}\}\}|\[/?[a-z]{1,8}(?:=[^\]]{0,100})?\]",
    re.DOTALL,
)
# UTF-8 read as Latin-1 or cp1252 (Ã©, â€™, å¥½), GBK read as UTF-8 and back (锟斤拷), uninitialised memory (烫烫烫)
_MOJIBAKE = re.compile(
    "\ufffd|[\u0080-\u0084\u0086-\u009f]|[\ue000-\uf8ff]|锟斤拷|烫烫烫|屯屯屯|锘\xbf|ï»¿"
    "|Ã[\u0080-\u00bf\u0152-\u0178\u2018-\u2122]|Â[\u0080-\u00bf]|â€[\u0080-\u00bf\u0152-\u0178\u2013-\u2122]?"
    "|[äåæçèé][\u0080-\u00bf\u0152-\u017e\u2018-\u2122]{2}|[ÐÑ][\u0080-\u00bf](?:[ÐÑ][\u0080-\u00bf])+"
)
_BOILERPLATE = re.compile(
    r"lorem ipsum|enable javascript|javascript (?:is|must be) (?:disabled|enabled|required)"
    r"|(?:use of|uses?|accept) cookies|cookie policy|privacy policy"
    r"|terms (?:of (?:use|service)|and conditions)|all rights reserved|click here to"
    r"|subscribe to our newsletter|sign up for our|skip to (?:main )?content|page not found|404 error"
    r"|版权所有|保留所有权利|未经授权|点击(?:此处|这里|查看|加载)|加载更多|隐私政策|用户协议|服务条款|请启用\s*javascript"
    r"|京ICP备|ICP备\d+|上一篇|下一篇|返回(?:顶部|首页)|扫一扫|关注(?:我们的)?公众号|转载请注明",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"[^.!?。！？\n]+[.!?。！？]*")
_BULLET = re.compile(r"^\s*(?:[-*•‣▪◦●·–]|\d{1,3}[.)、])\s*")


def words_of(text: str) -> list[str]:
    """The words, lower-cased; each Chinese or Japanese character is one."""
    return _WORD.findall(text.casefold())


def symbol_share(text: str) -> float:
    """Share of characters that are neither letters, digits, spaces, common punctuation nor emoji."""
    return _share(sum(map(_is_symbol, text)), len(text))


def _is_symbol(character: str) -> bool:
    if character.isalnum() or character.isspace() or character in ".,!?;:'\"()-–—…。，、！？；：“”‘’（）《》【】·～~":
        return False
    category = unicodedata.category(character)
    # So is where the pictures are; Mn, Mc, Me and Cf belong to the letter or picture before them
    return not (category in {"So", "Mn", "Mc", "Me", "Cf"} or "\U0001f3fb" <= character <= "\U0001f3ff")


def uppercase_share(text: str) -> float:
    """Share of capitals among all letters, so that "XP" in a Chinese sentence counts little."""
    return _share(sum(map(str.isupper, text)), sum(map(str.isalpha, text)))


def markup_share(text: str) -> float:
    """Share of characters inside tags, named entities and templates (a numbered entity is often a plain letter)."""
    if not any(sign in text for sign in "<&{["):
        return 0.0
    return _share(sum(len(match.group()) for match in _MARKUP.finditer(text)), len(text))


def damage_share(text: str) -> float:
    """Share of characters that are traces of a wrong encoding: ``Ã©`` for é, ``锟斤拷``, the replacement character."""
    if text.isascii():
        return 0.0
    return _share(sum(len(match.group()) for match in _MOJIBAKE.finditer(text)), len(text))


def boilerplate_share(text: str) -> float:
    """Share of characters in sentences with a phrase that belongs to a page and not to its text.

    At most 120 characters count for a sentence: text without punctuation is one long sentence.
    """
    if not _BOILERPLATE.search(text):
        return 0.0
    sentences = _SENTENCE.findall(text)
    return _share(sum(min(len(s), 120) for s in sentences if _BOILERPLATE.search(s)), sum(map(len, sentences)))


def run_share(text: str) -> float:
    """Length of the longest run of one character (spaces apart), as a share of the text."""
    packed = "".join(text.split())
    longest = max((len(match.group()) for match in re.finditer(r"(.)\1+", packed, re.DOTALL)), default=0)
    return _share(longest, len(packed))


def stop_word_count(words: Sequence[str], language: str) -> int:
    """How many of the words are stop words of the language (one of :data:`STOP_WORDS`)."""
    stop = STOP_WORDS[language]
    return sum(word in stop for word in words)


def lines_of(text: str) -> list[str]:
    """The lines that are not empty, trimmed."""
    return [stripped for line in text.splitlines() if (stripped := line.strip())]


def duplicate_line_share(lines: Sequence[str]) -> float:
    """Share of characters in lines that repeat an earlier line (Rae et al. 2021, table A1)."""
    seen: set[str] = set()
    repeated = 0
    for line in lines:
        repeated += len(line) if line in seen else 0
        seen.add(line)
    return _share(repeated, sum(map(len, lines)))


def bullet_share(lines: Sequence[str]) -> float:
    """Share of lines that begin like an item of a list."""
    return _share(sum(_BULLET.match(line) is not None for line in lines), len(lines))


def ellipsis_share(lines: Sequence[str]) -> float:
    """Share of lines that end with an ellipsis."""
    return _share(sum(line.endswith(("...", "…", "。。。")) for line in lines), len(lines))


def top_gram_share(words: Sequence[str], size: int) -> float:
    """Share of characters in the most frequent sequence of ``size`` words, if it comes more than once."""
    grams = _grams(words, size)
    if not grams:
        return 0.0
    gram, count = Counter(grams).most_common(1)[0]
    return min(1.0, _share(count * sum(map(len, gram)), sum(map(len, words)))) if count > 1 else 0.0


def duplicate_gram_share(words: Sequence[str], size: int) -> float:
    """Share of characters in sequences of ``size`` words that came before; overlapping ones count once."""
    seen: set[Hashable] = set()
    repeated = bytearray(len(words))
    for start, gram in enumerate(_grams(words, size)):
        if gram in seen:
            repeated[start : start + size] = b"\1" * size
        seen.add(gram)
    return _share(sum(len(w) for w, r in zip(words, repeated, strict=True) if r), sum(map(len, words)))


def _grams(words: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[start:] for start in range(size)), strict=False))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
