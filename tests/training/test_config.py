import dataclasses

import pytest

from shortlist.cli import main
from shortlist.cli._common import BUDGETS, PRESETS
from shortlist.errors import DataError
from shortlist.training.config.sections import Config
from shortlist.training.config.settings import (
    SECTIONS,
    apply_overrides,
    from_toml,
    load_config,
    presets,
    read_config,
    to_toml,
)


def test_defaults_survive_a_round_trip_through_toml():
    assert from_toml(to_toml(Config())) == Config()


def test_every_setting_survives_a_round_trip_through_toml():
    config = load_config(
        overrides={
            "data.path": 'C:\\data "new"\n\té東\u0007',
            "data.features.item.größe": "numeric",
            "split.protocol": "temporal",
            "model.dropout": 0.123456789,
            "train.weight_decay": 1e-7,
            "scorer.enabled": True,
            "scorer.hidden": (7,),
        }
    )
    assert from_toml(to_toml(config)) == config


def test_settings_left_out_keep_their_defaults():
    config = from_toml("[train]\nseed = 9\n")
    assert config.train == dataclasses.replace(Config().train, seed=9)
    assert config.model == Config().model


def test_every_setting_has_a_help_text():
    for section in SECTIONS:
        for item in dataclasses.fields(getattr(Config(), section)):
            assert item.metadata["help"], f"{section}.{item.name}"


def test_every_preset_is_valid_and_found_by_name():
    assert {"movielens-100k", "fast", "balanced", "best"} <= set(presets())
    for name in presets():
        assert isinstance(load_config(name), Config)


def test_overrides_replace_single_settings_and_leave_the_original_alone():
    config = Config()
    changed = apply_overrides(config, {"train.seed": 3, "model.dim": 16})
    assert (changed.train.seed, changed.model.dim) == (3, 16)
    assert config == Config()


def test_text_from_flags_is_read_as_the_type_of_the_setting():
    config = apply_overrides(
        Config(),
        {
            "train.epochs": "5",
            "train.ema": "0.9",
            "scorer.hidden": "[4, 2]",
            "scorer.enabled": "true",
        },
    )
    assert (config.train.epochs, config.train.ema) == (5, 0.9)
    assert (config.scorer.hidden, config.scorer.enabled) == ((4, 2), True)


def test_an_integer_is_taken_where_a_float_is_expected():
    dropout = apply_overrides(Config(), {"model.dropout": 0}).model.dropout
    assert dropout == 0.0
    assert isinstance(dropout, float)


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[trian]\nseed = 1", r"section: got 'trian', allowed: data, .*; did you mean 'train'\?"),
        (
            "[train]\nsede = 1",
            r"key in \[train\]: got 'sede', allowed: seed, .*mean 'seed'\? Fix: use",
        ),
        ("train = 3", r"train: got 3, expected a \[train\] table"),
        ("[train]\nseed = 1.5", r"train\.seed: got 1\.5, expected an integer from 0 to"),
        ("[train]\nseed = true", r"train\.seed: got True, expected an integer"),
        ('[train]\nseed = "x"', r"train\.seed: got 'x', expected an integer"),
        ("[train]\nseed = -1", r"train\.seed: got -1, expected an integer from 0 to"),
        ("[train]\nn_negatives = 0", r"train\.n_negatives: got 0, expected an integer from 1"),
        ("[train]\ntemperature = nan", r"train\.temperature: got nan, expected a number from"),
        ("[model]\ndropout = 1.0", r"model\.dropout: got 1\.0, expected a number from 0\.0 to"),
        (
            '[model]\nencoder = "pol"',
            r"model\.encoder: got 'pol', allowed: pool, .*, ials; did",
        ),
        ("[model]\nencoder = 3", r"model\.encoder: got 3 \(int\), expected text"),
        ("[scorer]\nenabled = 1", r"scorer\.enabled: got 1, expected true or false"),
        ("[scorer]\nhidden = 3", r"scorer\.hidden: got 3, expected a list of integers"),
        ("[scorer]\nhidden = [4, 0]", r"scorer\.hidden\[1\]: got 0, expected an integer >= 1"),
        ('[data.features]\nage = "number"', r"data\.features\.age: got 'number', allowed: categ"),
        ("[data]\nfeatures = 1", r"data\.features: got 1, expected a table"),
        ("[train\n", r"not valid TOML"),
    ],
)
def test_bad_settings_name_key_got_and_allowed(toml, message):
    with pytest.raises(DataError, match=message):
        from_toml(toml)


def test_bad_overrides_name_the_key():
    with pytest.raises(DataError, match=r"section: got 'seed', allowed: .*in override 'seed'"):
        apply_overrides(Config(), {"seed": 1})
    with pytest.raises(DataError, match=r"override 'train': expected SECTION\.KEY"):
        apply_overrides(Config(), {"train": 1})


def test_an_unknown_preset_lists_those_that_exist():
    with pytest.raises(DataError, match=r"preset: got 'movie', allowed: .*movielens-100k"):
        load_config("movie")
    with pytest.raises(DataError, match="preset and path"):
        load_config("fast", "x.toml")


def test_an_unreadable_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"config: no such file: .*no\.toml"):
        read_config(tmp_path / "no.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"binary\.toml begins as utf-16 and is damaged"):
        read_config(tmp_path / "binary.toml")
    (tmp_path / "bad.toml").write_text("[train]\nseed = -1")
    with pytest.raises(DataError, match=r"bad\.toml: train\.seed: got -1"):
        read_config(tmp_path / "bad.toml")


def test_print_config_explains_every_key_and_reads_back(capsys):
    argv = ["train", "--preset", "movielens-100k", "--set", "data.columns.user_id=who"]
    assert main([*argv, "--print-config"]) == 0
    page = capsys.readouterr().out
    expected = load_config("movielens-100k", overrides={"data.columns.user_id": "who"})
    assert from_toml(page) == expected
    for section in SECTIONS:
        assert f"\n[{section}]\n" in page
        for item in dataclasses.fields(getattr(expected, section)):
            assert item.metadata["help"] in page
    assert "dropout = 0.4 " in page
    assert "(cosine, constant)" in page
    assert "(0 to 0.95)" in page
    assert page.startswith(f"# Settings of `shortlist train`. Presets: {', '.join(presets())}\n")


def test_help_of_train_names_every_preset():
    assert sorted((*BUDGETS, *PRESETS)) == presets()


def test_the_preset_balanced_is_the_default():
    assert load_config("balanced") == Config()
    minutes = [load_config(name).choice.minutes for name in ("fast", "balanced", "best", "pool")]
    assert minutes == [5.0, 30.0, 120.0, 0.0]


def test_a_table_of_settings_takes_text_only():
    with pytest.raises(DataError, match=r"data\.columns\.user_id: got 3, expected text"):
        from_toml("[data.columns]\nuser_id = 3")
    named = apply_overrides(Config(), {"data.columns.user_id": "2020", "data.lists": {"a": "1"}})
    assert named.data.columns == {"user_id": "2020"}
    assert named.data.lists == {"a": "1"}
