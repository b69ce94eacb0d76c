"""Settings and recipes: what is wrong is refused with its name, and every recipe that comes along can be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from glassgpt.core.config import override, settings_from
from glassgpt.core.errors import ConfigError, FormatError, GlassError, NotFoundError
from glassgpt.training.settings import Recipe, TrainSettings, read_recipe
from glassgpt.training.sft import FineTuneSettings

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_can_be_read(path):
    recipe = read_recipe(path)
    assert recipe.about and recipe.train.steps > 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0), ("batch", 0), ("context", 1), ("accumulate", 0), ("seed", -1), ("patience", -1),
        ("steps", 1 << 50), ("lr", 0.0), ("lr", 10.0), ("lr", float("nan")), ("matrix_lr", -0.1), ("clip", -1.0),
        ("weight_decay", float("inf")),
        ("warmup", 1.5), ("decay", -0.1), ("beta1", 2.0), ("beta1", 1.0), ("beta2", 1.0), ("momentum", float("nan")),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=f"{name} is .*expected"):
        TrainSettings(**{name: value})


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"train": {"stepz": 3}}, "train.steps"),
        ({"train": {"learning": 3}}, "Known are"),
        ({"trian": {}}, "train"),
        ({"train": {"steps": "many"}}, "12"),
        ({"train": {"steps": True}}, "12"),
        ({"train": {"steps": 2.5}}, "12"),
        ({"train": {"optimizer": "sgd"}}, "muon"),
        ({"train": {"precision": "float16"}}, "bfloat16"),
        ({"train": 3}, "train"),
        ({"data": {"validation": 1.0}}, "below 1"),
        ({"base": "llama"}, "modern"),
    ],
)
def test_a_wrong_recipe_says_what_was_expected(values, told):
    with pytest.raises(ConfigError) as error:
        settings_from(Recipe, values)
    for language in ("en", "zh"):
        assert "\n" not in error.value.line(language)
    assert told in error.value.line()


def test_whole_numbers_serve_as_fractions_and_changes_win():
    recipe = settings_from(Recipe, override({"train": {"lr": 1, "steps": 5}}, {"train": {"steps": 9, "batch": None}}))
    assert (recipe.train.lr, recipe.train.steps, recipe.train.batch) == (1.0, 9, TrainSettings().batch)
    assert settings_from(FineTuneSettings, {"lora": {"rank": 0}, "epochs": 2}).epochs == 2.0


def test_gaps_follow_from_one_another():
    gaps = [(1000, 0, 0), (1000, 50, 0), (1000, 50, 20), (1000, 0, 20)]
    settings = [TrainSettings(steps=s, evaluate_every=e, checkpoint_every=c) for s, e, c in gaps]
    assert [(s.evaluation_gap, s.checkpoint_gap) for s in settings] == [(1000, 1000), (50, 50), (50, 20), (1000, 20)]


def test_a_fine_tuning_that_is_to_be_compiled_is_refused():
    assert TrainSettings(compile=True).compile
    with pytest.raises(ConfigError, match="fine-tuning is not compiled"):
        settings_from(FineTuneSettings, {"train": {"compile": True}})


def test_a_recipe_from_a_file(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text('\ufeffabout = "中文"\n[model]\nn_layer = 2\n[train]\nsteps = 7\n', encoding="utf-8")
    assert read_recipe(path, {"train": {"steps": 8}}) == Recipe(
        about="中文", model={"n_layer": 2}, train=TrainSettings(steps=8)
    )


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (None, NotFoundError),
        (b"[train\n", FormatError),
        (b"\xff\xfe\x00", FormatError),
        (b"#" * (1 << 21), FormatError),
    ],
    ids=["missing", "not TOML", "not UTF-8", "too large"],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path, content, kind):
    path = tmp_path / "r.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(kind, match=r"r\.toml") as error:
        read_recipe(path)
    assert isinstance(error.value, GlassError) and "\n" not in error.value.line("zh")
