"""The encoding of a file is found from its bytes; the truth is the text that was encoded."""

from __future__ import annotations

import codecs
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.core.errors import ConfigError, FormatError
from glassgpt.data.encoding import ERRORS, check_encoding, find_encoding, show_marks

SIMPLIFIED = [
    *("今天天气怎么样", "我想退掉昨天买的衣服", "请问你们几点关门", "快递一般三天能到", "谢谢你的帮助", "这本书多少钱"),
    *(
        "他在北京学习中文",
        "手机没有电了",
        "会议改到下午两点",
        "孩子们喜欢听故事",
        "春天来了，花都开了",
        "我不太明白你的意思",
    ),
    *("发票可以开给公司吗", "请把门关上", "用Python写程序很有趣", "价格是25元", "鸳鸯在湖里游来游去", "窗外下着小雨"),
]
TRADITIONAL = [
    *("今天天氣怎麼樣", "我想退掉昨天買的衣服", "請問你們幾點關門", "快遞一般三天能到", "謝謝你的幫助", "這本書多少錢"),
    *(
        "他在臺北學習中文",
        "手機沒有電了",
        "會議改到下午兩點",
        "孩子們喜歡聽故事",
        "春天來了，花都開了",
        "我不太明白你的意思",
    ),
    *("發票可以開給公司嗎", "請把門關上", "用Python寫程式很有趣", "價格是25元", "鴛鴦在湖裡游來游去", "窗外下著小雨"),
]
JAPANESE = [
    *(
        "今日はいい天気ですね",
        "駅までどうやって行きますか",
        "ありがとうございます",
        "コーヒーを一杯ください",
        "電車が遅れています",
    ),
    *(
        "この本はいくらですか",
        "明日の会議は三時からです",
        "子供たちは公園で遊んでいる",
        "メールを送ってください",
        "日本語を勉強しています",
    ),
]
WESTERN = [
    *(
        "Où est la gare, s'il vous plaît ?",
        "Je préfère le café à midi.",
        "Où étiez-vous l'été passé ?",
        "Ça va très bien.",
    ),
    *("Können Sie mir helfen?", "Die Tür ist geöffnet.", "Das Mädchen isst Äpfel in München.", "Größe und Straße"),
    *("¿Dónde está el baño?", "Mañana será otro día.", "El niño comió una piña.", "A informação não está disponível."),
    *("Smörgåsbord är gott.", "Så er det jul på øya.", "È più facile così.", "Un garçon naïf mange des crêpes."),
]
ENCODED = [
    *((SIMPLIFIED, codec) for codec in ("gb18030", "gbk", "utf-16-le", "utf-16-be", "utf-16", "utf-32", "utf-8-sig")),
    *((TRADITIONAL, codec) for codec in ("big5", "cp950", "gb18030", "utf-16-le", "utf-16-be", "utf-8")),
    *((JAPANESE, codec) for codec in ("shift_jis", "cp932", "euc_jp", "utf-16", "utf-8")),
    *((WESTERN, codec) for codec in ("latin-1", "cp1252", "utf-16-le", "utf-16", "utf-8")),
]


def decoded(raw: bytes) -> str:
    return raw.decode(find_encoding([raw], "a file").name, ERRORS)


@pytest.mark.parametrize(("sentences", "codec"), ENCODED, ids=lambda v: v if isinstance(v, str) else v[0])
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_a_table_of_one_or_two_records_decodes_back_exactly(sentences: list[str], codec: str, data: st.DataObject):
    cells = data.draw(st.lists(st.sampled_from(sentences), min_size=2, max_size=4))
    text = "question,answer\r\n" + "".join(f"{q},{a}\r\n" for q, a in zip(cells[::2], cells[1::2], strict=False))
    assert decoded(text.encode(codec)) == text


@pytest.mark.parametrize(("sentences", "codec"), ENCODED, ids=lambda v: v if isinstance(v, str) else v[0])
def test_a_single_sentence_decodes_back_exactly(sentences: list[str], codec: str):
    assert [decoded(s.encode(codec)) for s in sentences] == sentences


@pytest.mark.parametrize(
    ("name", "codecs_wanted", "share"),
    [
        ("instruct/chatterbot_chinese.jsonl", ("gb18030", "gbk"), 0.98),
        ("instruct/chatterbot_traditionalchinese.jsonl", ("big5", "cp950", "gb18030"), 0.99),
        ("instruct/chatterbot_chinese.jsonl", ("utf-16-le", "utf-16-be"), 0.94),
    ],
)
def test_nearly_every_real_sentence_alone_decodes_back(shared_data, name, codecs_wanted, share):
    """Two or three characters can be good text in two encodings; the share says how often that may happen."""
    lines = (shared_data / name).read_text(encoding="utf-8").splitlines()
    sentences = sorted({turn for line in lines for turn in json.loads(line)["turns"] if not turn.isascii()})[::4]
    for codec in codecs_wanted:
        able = [s for s in sentences if s.encode(codec, "ignore").decode(codec) == s]
        right = sum(decoded(s.encode(codec)) == s for s in able)
        assert right >= share * len(able), (codec, right, len(able))


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("encodings/sample-arabic-1.txt", "cp1256"),
        ("encodings/sample-chinese.txt", "big5"),
        ("encodings/sample-french-1.txt", "cp1252"),
        ("encodings/sample-greek.txt", "cp1253"),
        ("encodings/sample-greek-2.txt", "cp1253"),
        ("encodings/sample-hebrew-2.txt", "cp1255"),
        ("encodings/sample-hebrew-3.txt", "cp1255"),
        ("encodings/sample-korean.txt", "cp949"),
        ("encodings/sample-russian.txt", "mac_cyrillic"),
        ("encodings/sample-turkish.txt", "cp1254"),
        ("derived_encodings/qa_zh_gbk.csv", "gb18030"),
        ("derived_encodings/qa_zh_utf16.csv", "utf-16"),
        ("messytables/characters.csv", "cp950"),
        ("messytables/utf-16le_encoded.csv", "utf-16"),
        ("pandas/chinese_utf-16.html", "utf-16"),
        ("pandas/chinese_utf-32.html", "utf-32"),
        ("pandas/letz_latin1.html", "latin-1"),
        ("pandas/sauron.SHIFT_JIS.csv", "shift_jis"),
        ("pandas/unicode_series.csv", "latin-1"),
        ("pandas/utf16_ex.txt", "utf-16"),
    ],
)
def test_real_files_decode_as_their_publishers_say(shared_data, name: str, codec: str):
    raw = (shared_data / "dirty_csv" / name).read_bytes()
    assert decoded(raw) == raw.decode(codec)


def test_what_decodes_as_utf8_is_utf8(shared_data):
    for path in (shared_data / "dirty_csv" / "encodings").iterdir():
        raw = path.read_bytes()
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError:
            assert not find_encoding([raw]).name.startswith("utf-8")
        else:
            assert find_encoding([raw]).name == ("utf-8-sig" if raw.startswith(codecs.BOM_UTF8) else "utf-8")


def test_bytes_are_read_in_blocks_that_part_characters():
    raw = ("问题,答案\n" + "你好，世界\n" * 200).encode()
    assert find_encoding([raw[i : i + 7] for i in range(0, len(raw), 7)]).whole
    late = b"a,b\n" * 50_000 + "退货,可以的，请联系客服\n".encode("gb18030") * 3
    assert find_encoding([late[i : i + 9999] for i in range(0, len(late), 9999)]).name == "gb18030"


def test_one_broken_byte_leaves_utf8_and_is_kept_as_a_mark():
    raw = "问题,答案\n你好,您好\n".encode() * 5 + b"caf\xe9,ok\n"
    found = find_encoding([raw])
    assert (found.name, found.whole) == ("utf-8", False)
    assert show_marks(raw.decode("utf-8", ERRORS)).endswith("caf\\xe9,ok\n")


def test_a_program_is_no_text():
    with pytest.raises(FormatError, match="not text"):
        find_encoding([bytes(range(256)) * 50])


def test_random_bytes_are_refused_or_told_as_a_guess():
    import random

    raw = bytes(random.Random(5).randrange(128, 256) for _ in range(4000))
    try:
        found = find_encoding([raw], "noise.txt")
    except FormatError as error:
        assert "noise.txt" in str(error)
    else:
        assert found.found


def test_an_encoding_that_is_named_must_exist():
    assert "好".encode("gbk").decode(check_encoding("GBK").name) == "好"
    assert check_encoding("utf8").name == "utf-8-sig"
    for name in ("klingon", "base64", ""):
        with pytest.raises(ConfigError):
            check_encoding(name)
