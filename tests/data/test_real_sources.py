"""Published data sets, read whole or refused with a reason."""

from __future__ import annotations

import gzip
import json

import pytest
from reading import rows

from glassgpt.core.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("instruct/chatterbot_chinese.jsonl", 467),
        ("instruct/chatterbot_english.jsonl", 2026),
        ("instruct/chatterbot_traditionalchinese.jsonl", 456),
        ("instruct/crosswoz_val_chat_zh.jsonl", 400),
        ("instruct/dolly_fixture.json", 12),
        ("instruct/dolly_sample_151.jsonl", 151),
        ("instruct/glaive_toolcall_en_demo.json", 300),
        ("instruct/glaive_toolcall_zh_demo.json", 300),
        ("instruct/identity_en_zh.json", 91),
        ("instruct/kdconv_travel_dev_zh.jsonl", 150),
        ("instruct/llms_from_scratch_instruction_1100.json", 1100),
        ("instruct/medical_sft_1k_zh.jsonl", 1000),
        ("instruct/zh_baseline_企业管理问题.json", 13),
        ("instruct/zh_baseline_传统诗词及文化常识问题.json", 31),
        ("instruct/zh_baseline_名词解释类问题.json", 152),
        ("instruct/zh_baseline_建议类问题.json", 23),
        ("instruct/zh_baseline_情绪心理类问题.json", 26),
        ("instruct/zh_baseline_整数加减法.json", 500),
        ("instruct/zh_baseline_饮食问题.json", 9),
        ("preference/dpo_en_demo_300.json.gz", 300),
        ("preference/dpo_zh_demo_300.json", 300),
        ("preference/llms_from_scratch_pref_1100.json", 1100),
        ("preference/toolcall_dpo_zh_demo.jsonl", 11),
        ("pretrain_en/c4_demo.jsonl", 300),
        ("pretrain_zh/xiehouyu.json", 14032),
        *((f"pretrain_zh/chinese_poetry/{name}.json", count) for name, count in (
            ("ci.song.0", 1000), ("ci.song.1000", 1000), ("daxue", 1), ("mengzi", 14), ("nantang_poetrys", 45),
            ("poet.tang.0", 1000), ("poet.tang.1000", 1000), ("songci300", 280), ("tang300", 366),
            ("youmengying", 219), ("zhongyong", 1), ("曹操诗集_caocao", 26), ("楚辞_chuci", 65),
            ("纳兰性德_纳兰性德诗集", 258), ("蒙学_baijiaxing", 1), ("蒙学_qianziwen", 1), ("蒙学_sanzijing-new", 1),
            ("蒙学_sanzijing-traditional", 1), ("蒙学_zhuzijiaxun", 1), ("论语_lunyu", 20), ("诗经_shijing", 305),
        )),
    ],
)  # fmt: skip
def test_published_data_sets_are_read_whole(shared_data, name: str, count: int):
    found, problems, _ = rows(shared_data / name)
    assert (len(found), problems) == (count, [])
    assert any(text.strip() for row in found for text in row.texts)


def test_banking_questions(shared_data):
    """10,016 lines below the header; the csv module counts the records, some of which span lines."""
    import csv

    path = shared_data / "instruct/banking77_train.csv"
    with path.open(encoding="utf-8", newline="") as file:
        truth = [record[0] for record in csv.reader(file)][1:]
    assert [row.texts[0] for row in rows(path)[0]] == truth


def test_thumbs_down_is_not_learnt(shared_data):
    """Every record is either a row or told: bad answers must not be imitated."""
    with gzip.open(shared_data / "preference/kto_en_demo_300.json.gz", "rt", encoding="utf-8") as file:
        labels = [record["label"] for record in json.load(file)]
    found, problems, _ = rows(shared_data / "preference/kto_en_demo_300.json.gz")
    assert [row.number for row in found] == [i for i, good in enumerate(labels, 1) if good]
    assert [p.number for p in problems] == [i for i, good in enumerate(labels, 1) if not good]


REFUSED = [
    *(f"dirty_csv/ftfy/{name}.json" for name in ("known-failures", "negative", "synthetic")),
    "dirty_csv/derived_dirty/dirty_qa_a_truth.jsonl",
    *("instruct/clinc150_small.json.gz", "instruct/self_instruct_seed_tasks.jsonl"),
]


@pytest.mark.parametrize("name", REFUSED)
def test_unknown_shapes_are_refused_with_their_columns(shared_data, name: str):
    with pytest.raises(ConfigError, match="none of the columns of"):
        rows(shared_data / name)


def test_books_of_nested_chapters_are_told(shared_data):
    for name in ("dizigui", "guwenguanzhi", "qianjiashi", "shenglvqimeng", "tangshisanbaishou", "wenzimengqiu"):
        found, problems, _ = rows(shared_data / f"pretrain_zh/chinese_poetry/蒙学_{name}.json")
        assert (found, len(problems)) == ([], 1)


def test_every_dirty_file_is_read_or_refused_with_a_reason(shared_data):
    """No file ends in any other exception, and none without rows goes unexplained."""
    from glassgpt.core.errors import GlassError

    for path in sorted(p for p in (shared_data / "dirty_csv").rglob("*") if p.is_file()):
        try:
            found, _, about = rows(path)
        except GlassError as error:
            assert error.hint(), path
            assert path.name in str(error), path
        else:
            assert found, path
            assert about.encoding, path
