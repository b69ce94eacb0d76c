"""Personal data is found; numbers that are something else are not."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassgpt.data.personal import chinese_id, find_personal, hong_kong_id, luhn, mask_personal, taiwan_id

# Test numbers that card networks and payment services publish.
CARDS = ["4111111111111111", "4012888888881881", "5555555555554444", "5105105105105100", "378282246310005",
         "371449635398431", "6011111111111117", "3530111333300000", "2223003122003222", "6200000000000005"]  # fmt: skip
# The two examples of GB 11643-1999.
IDENTITIES = ["11010519491231002X", "440524188001010014"]


@pytest.mark.parametrize("card", CARDS)
def test_published_card_numbers_pass_and_each_single_wrong_digit_fails(card):
    assert luhn(card)
    for at in range(len(card)):
        for digit in set("0123456789") - {card[at]}:
            assert not luhn(card[:at] + digit + card[at + 1 :])
    assert mask_personal(f"卡号是{card}。") == "卡号是[CARD]。"
    grouped = " ".join(card[at : at + 4] for at in range(0, len(card), 4))
    if len(card) == 16:
        assert mask_personal(f"card {grouped} ok") == "card [CARD] ok"


@pytest.mark.parametrize("number", IDENTITIES)
def test_published_identity_numbers_pass_and_every_other_check_character_fails(number):
    assert chinese_id(number)
    for digit in set("0123456789X") - {number[-1]}:
        assert not chinese_id(number[:-1] + digit)


@pytest.mark.parametrize(
    ("check", "number", "signs"), [(taiwan_id, "A123456789", "0123456789"), (hong_kong_id, "A123456(3)", "0123456789A")]
)
def test_of_the_check_characters_of_taiwan_and_hong_kong_one_is_right(check, number, signs):
    """The numbers that explanations of the two schemes use as their example."""
    at = -2 if ")" in number else -1
    right = [sign for sign in signs if check(number[:at] + sign + number[len(number) + at + 1 :])]
    assert right == [number[at]]


def test_an_identity_number_needs_a_real_date_and_the_right_check_digit():
    assert mask_personal("身份证11010519491231002X，") == "身份证[ID]，"
    assert find_personal("身份证110105194912310021，") == {}
    assert find_personal("身份证11010519490231002X，") == {}


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("call 13812345678 now", "call [PHONE] now"),
        ("我的手机号是138-1234-5678，请联系", "我的手机号是[PHONE]，请联系"),
        ("手机：138 1234 5678", "手机：[PHONE]"),
        ("+86 13812345678", "[PHONE]"),
        ("电话010-62781234转", "电话[PHONE]转"),
        ("(0571) 8888 6666", "[PHONE]"),
        ("call me at (415) 555-2671.", "call me at [PHONE]."),
        ("phone number: 415-555-2671", "phone number: [PHONE]"),
        ("+44 20 7183 8750", "[PHONE]"),
        ("My number is 020 7946 0018.", "My number is [PHONE]."),
        ("+1-415-555-2671", "[PHONE]"),
        ("热线400-810-8888", "热线[PHONE]"),
        ("写信给zhang.san+a@mail.example.com.cn吧", "写信给[EMAIL]吧"),
        ("Bob <bob@example.org>", "Bob <[EMAIL]>"),
        ("0086-13812345678", "[PHONE]"),
        ("身分證字號A123456789，", "身分證字號[ID]，"),
        ("my HKID is A123456(3).", "my HKID is [ID]."),
        ("身份證C123456（9）", "身份證[ID]"),
        ("SSN 078-05-1120", "SSN [ID]"),
        ("护照号码：E12345678", "护照号码：[PASSPORT]"),
        ("passport no. G12345678", "passport no. [PASSPORT]"),
    ],
)
def test_personal_data_is_masked(text, masked):
    assert mask_personal(text) == masked
    assert sum(find_personal(text).values()) == 1
    assert mask_personal(masked) == masked


@pytest.mark.parametrize(
    "text",
    [
        "order number 13812345678",
        "订单号：13812345678",
        "运单号 13900001111 已发货",
        "SF13812345678",
        "2024-01-15 10:30:00 and 20240115103000",
        "¥13812345678 or $13812345678.00",
        "价格13812345678元",
        "ISBN 978-7-302-51234-5",
        "3.14159265358979323846264338327950288",
        "1+1=2, 100 200 300 400 500 600 700",
        "192.168.100.200:8080",
        "population 1400000000, distance 384400000 m",
        "id 1111111111111111 and 4111111111111112",
        "x = 2 + 12345678901",
        "A123456788 and A323456789",
        "A123456(4) or f123456(3)",
        "000-12-3456, 666-12-3456, 912-12-3456, 123-00-4567, 123-45-0000",
        "part 123-45-6789",
        "@property def f(self): return a@b",
        "2020-2024, 1990-2000, 555-1234",
        "0.1 0.2 0.3 0.4 0.5 0.6 0.7",
        "圆周率3.1415926，光速299792458米每秒",
    ],
)
def test_other_numbers_are_left_alone(text):
    assert find_personal(text) == {}
    assert mask_personal(text) == text


def test_random_order_numbers_are_rarely_taken_for_cards():
    draw = random.Random(0)
    numbers = [str(draw.randrange(10**15, 10**16)) for _ in range(5000)]
    assert sum(bool(find_personal(f"see {n} here")) for n in numbers) < 5000 * 0.05


@given(st.text("0123456789-+() .@aXE护照元¥", max_size=40))
def test_masking_twice_is_masking_once_and_counting_agrees(text):
    masked = mask_personal(text)
    assert mask_personal(masked) == masked
    assert bool(find_personal(text)) == (masked != text)


@pytest.mark.parametrize("piece", ["1", "1 ", "a.", "a@", "a@b.", "+1", "(1", "13812345678", "4111 "])
def test_no_text_takes_quadratic_time(piece):
    mask_personal(piece * 20_000)
    mask_personal(piece * 20_000 + "@1234567")
