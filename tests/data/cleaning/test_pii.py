"""Personal data: what is valid is found in any surroundings, what is not stays, and nothing else changes."""

import ipaddress
import re

import pyarrow as pa
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from stdnum import luhn
from stdnum.cn import ric

from deepseek.data import CleaningConfig, clean
from deepseek.data.cleaning import PIIConfig, find_pii, mask_pii

WORDS = ["hello", "谢谢", "请联系我", "été", "привет", "good film", "好评", "مرحبا", "call", "price 12.50", "第3章", ""]
AROUND = st.lists(st.sampled_from(WORDS), max_size=4).map(" ".join)
GLUE_BEFORE = st.sampled_from([" ", "，", "：", " (", "、", "是", ", "])
GLUE_AFTER = st.sampled_from([" ", "，", "。", ") ", "、", "吧", ", ", "\n"])


def digits(count):
    return st.text("0123456789", min_size=count, max_size=count)


def with_luhn(prefix, length):
    return digits(length - len(prefix) - 1).map(lambda rest: (n := prefix + rest) + luhn.calc_check_digit(n))


CARDS = st.one_of(
    with_luhn("4", 16), with_luhn("51", 16), with_luhn("2221", 16), with_luhn("37", 15), with_luhn("6011", 16),
    with_luhn("3530", 16), with_luhn("62", 16), with_luhn("62", 19), with_luhn("36", 14),
)  # fmt: skip
SPACED = CARDS.filter(lambda n: len(n) == 16).flatmap(
    lambda n: st.sampled_from([" ", "-"]).map(lambda sign: sign.join(re.findall("....", n)))
)
IDS_CN = st.builds(
    lambda place, day, order: (n := place + day.strftime("%Y%m%d") + order) + ric.calc_check_digit(n + "0"),
    st.sampled_from(["110105", "310101", "440308", "510104", "650102"]),
    st.dates(min_value=__import__("datetime").date(1920, 1, 1), max_value=__import__("datetime").date(2020, 12, 31)),
    digits(3),
)
SSNS = st.builds(
    "{:03}-{:02}-{:04}".format,
    st.integers(1, 899).filter(lambda area: area not in {666, 78, 219}),
    st.integers(1, 99),
    st.integers(1, 9999),
)
LOCAL = st.from_regex(r"[a-z][a-z0-9]{0,8}([._+-][a-z0-9]{1,6}){0,2}", fullmatch=True)
EMAILS = st.builds(
    "{}@{}.{}".format,
    LOCAL,
    st.from_regex(r"[a-z][a-z0-9]{0,10}(-[a-z0-9]{1,5})?(\.[a-z]{2,6})?", fullmatch=True),
    st.sampled_from(["com", "org", "cn", "com.cn", "de", "museum", "io"]),
)
MOBILES = st.builds("{}{}".format, st.sampled_from(["138", "139", "150", "186", "177", "199"]), digits(8))
PHONES = MOBILES | st.builds(
    lambda area, exchange, line, form: form.format(area, exchange, line),
    st.sampled_from([212, 415, 650, 305, 512]),
    st.integers(220, 989).filter(lambda exchange: exchange % 100 != 11 and exchange != 555),
    st.integers(1000, 9999),
    st.sampled_from(["({}) {}-{}", "{}-{}-{}", "+1 {} {} {}", "+1-{}-{}-{}"]),
)
IPS = st.builds(
    lambda octets: ".".join(map(str, octets)),
    st.lists(st.integers(0, 255), min_size=4, max_size=4).filter(lambda octets: max(octets) > 9),
)
IPS6 = st.integers(2**112, 2**128 - 1).map(lambda number: str(ipaddress.IPv6Address(number)))
VALID = st.one_of(
    *(
        st.tuples(st.just(kind), strategy)
        for kind, strategy in [
            ("card", CARDS), ("card", SPACED), ("id_cn", IDS_CN), ("id_us", SSNS), ("email", EMAILS),
            ("phone", PHONES), ("ip", IPS), ("ip", IPS6),
        ]
    )
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(VALID, AROUND, GLUE_BEFORE, GLUE_AFTER, AROUND)
@example(("phone", "13800138000"), "请联系我", "是", "吧", "谢谢")
@example(("phone", "19900101000"), "", " ", " ", "")
@example(("phone", "19912311000"), "", " ", " ", "")
@example(("ip", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffa"), "", " ", " ", "")
def test_valid_ones_are_found_in_any_text(item, before, left, right, after):
    kind, value = item
    text = before + left + value + right + after
    found = [
        finding
        for finding in find_pii(text)
        if finding.start < len(before + left + value) and finding.end > len(before + left)
    ]
    if kind == "ip":
        assume(not re.search(r"(?:第|v)\s*$", before + left))
    # an 18-digit card of UnionPay can also be a right identity number, and the like: some kind has to be found
    assert {finding.kind for finding in found} & {kind, "id_cn" if kind == "card" else kind}, (text, found)
    assert value not in mask_pii(text)[0]


@settings(max_examples=200, deadline=None)
@given(CARDS, st.integers(1, 9), AROUND)
def test_a_wrong_check_digit_is_no_card(number, error, around):
    wrong = number[:-1] + str((int(number[-1]) + error) % 10)
    found = find_pii(f"{around} {wrong}", PIIConfig(kinds=("card",)))
    assert found == []


@settings(max_examples=200, deadline=None)
@given(IDS_CN, st.integers(1, 10))
def test_a_wrong_check_character_or_date_is_no_identity_number(number, error):
    config = PIIConfig(kinds=("id_cn",))
    place = (10 if number[-1] == "X" else int(number[-1])) + error
    wrong = "0123456789X"[place % 11]
    assert find_pii(f"证 {number[:-1]}{wrong}", config) == []
    undated = number[:10] + "1332" + number[14:17]
    assert find_pii(undated + ric.calc_check_digit(undated + "0"), config) == []


@pytest.mark.parametrize(
    "text", ["000-12-3456", "666-12-3456", "900-12-3456", "123-00-4567", "123-45-0000", "078-05-1120"]
)
def test_invalid_social_security_numbers(text):
    assert find_pii(text, PIIConfig(kinds=("id_us",))) == []


@pytest.mark.parametrize(
    "text",
    [
        "version 1.2.3.4", "v10.0.19.1", "Chrome/99.0.48.51 Safari", "see §1.2.3.4", "1.2.3.4", "256.1.1.1", "1.2.3.4.5",
        "12:30:45", "std::vector<int>", "a::b", "$1,234,567,890", "¥13800138000", "2024-01-15 10:30:45", "20240115 103045",
        "order 1234567890", "订单号13800138000", "ISBN 978-3-16-148410-0", "3.14159265358979", "1999-2004", "2023.10.12",
        "@name", "root@localhost", "a@b", "x" * 5000 + "@", "9400110200881234567890", "4155552671", "sold 12000000 copies",
    ],
)  # fmt: skip
def test_what_only_looks_like_it_stays(text):
    assert mask_pii(text) == (text, [])


def test_context_and_forms():
    for text, masked in {
        "ping 1.2.3.4": "ping [IP]",
        "http://10.1.2.3:80/x": "http://[IP]:80/x",
        "::ffff:192.168.1.1": "[IP]",
        "tel. 4155552671": "tel. [PHONE]",
        "SSN: 123456789": "SSN: [ID_US]",
        "１３８００１３８０００": "[PHONE]",
        "ＡＢ１＠ＳＯＨＵ．ＣＯＭ": "[EMAIL]",
        "800-820-6666，400-820-6666（手机）": "[PHONE]，[PHONE]（手机）",
        "a@b.co,c@d.org": "[EMAIL],[EMAIL]",
        "4111111111111111,5500000000000004": "[CARD],[CARD]",
        "身份证11010519491231002x。": "身份证[ID_CN]。",
    }.items():
        assert mask_pii(text)[0] == masked
    assert mask_pii("020 7946 0958", PIIConfig(regions=("GB",)))[0] == "[PHONE]"
    assert mask_pii("020 7946 0958", PIIConfig(regions=("US",)))[0] == "020 7946 0958"
    assert mask_pii("+44 20 7946 0958", PIIConfig(regions=()))[0] == "[PHONE]"


PIECES = st.one_of(
    VALID.map(lambda item: item[1]), st.text(max_size=12), st.sampled_from(["1", "-", "@", ".", ":", "+", "[IP]"])
)


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=8), st.sampled_from(["", " ", "-"]))
def test_masking_is_idempotent_and_changes_nothing_else(pieces, glue):
    text = glue.join(pieces)
    masked, kinds = mask_pii(text)
    assert mask_pii(masked) == (masked, [])
    # what is left, cut at the masks, stands in the text in that order
    place = 0
    for part in re.split(r"\[(?:EMAIL|PHONE|CARD|ID_CN|ID_US|IP)\]", masked):
        place = text.find(part, place)
        assert place >= 0
        place += len(part)
    if not kinds:
        assert masked == text


def test_kinds_can_be_chosen():
    text = "bob@example.com 4111111111111111"
    assert mask_pii(text, PIIConfig(kinds=("card",)))[0] == "bob@example.com [CARD]"
    for wrong in ({"kinds": ()}, {"kinds": ("name",)}, {"regions": ("China",)}, {"action": "hide"}):
        with pytest.raises(ValidationError):
            PIIConfig(**wrong)


def table():
    return pa.table(
        {"text": ["write to bob@example.com", "fine", "call 650-253-0000, 212-736-5000", ""], "label": list("abab")}
    )


def test_the_step_masks_rejects_or_reports(tmp_path):
    masked = clean(table(), CleaningConfig(pii=PIIConfig()))
    assert masked.kept["text"].to_pylist() == ["write to [EMAIL]", "fine", "call [PHONE], [PHONE]"]
    step = next(step for step in masked.report.steps if step.step == "personal data")
    assert (step.changed, step.details) == (2, {"phone": 2, "email": 1})
    rejected = clean(table(), CleaningConfig(pii=PIIConfig(action="reject")))
    assert rejected.kept["text"].to_pylist() == ["fine"]
    assert rejected.rejected["detail"].to_pylist() == ["email: 1", "phone: 2", ""]
    only_said = clean(table(), CleaningConfig(pii=PIIConfig(action="report")))
    assert only_said.kept["text"].to_pylist() == table()["text"].to_pylist()[:3]
    for result in (masked, rejected, only_said):
        page = result.report.to_html(tmp_path / "report.html").read_text() + result.report.to_json()
        assert "bob@example" not in page
        assert "253-0000" not in page
