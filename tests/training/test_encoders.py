import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shortlist.errors import DataError
from shortlist.export.graph import check_parity, keras_to_onnx, random_batches
from shortlist.export.writer import export_bundle
from shortlist.training.config.sections import ENCODERS
from shortlist.training.config.settings import apply_overrides
from shortlist.training.evaluation.evaluate import evaluate
from shortlist.training.features.features import FeatureSet, align_items
from shortlist.training.fit.fit import train
from shortlist.training.fit.sequences import Sequences
from shortlist.training.models.two_tower import TwoTower
from shortlist.training.splits.split import leave_one_out


def slow(value):
    return pytest.param(value, marks=pytest.mark.slow)


CAUSAL = [name for name in ENCODERS if name != "pool"]


def build(shop, config, **settings):
    config = apply_overrides(config, {f"model.{k}": v for k, v in settings.items()})
    split = leave_one_out(shop)
    features = FeatureSet.fit(shop, split, config)
    table = features.encode_items(align_items(shop, split.catalogue))
    model = TwoTower(config, features, table)
    rng = np.random.default_rng(1)
    model.set_weights(
        {k: rng.normal(0, 0.5, w.shape).astype(np.float32) for k, w in model.get_weights().items()}
    )
    return model


@pytest.fixture(scope="module", params=CAUSAL)
def model(shop, small_config, request):
    return build(shop, small_config, encoder=request.param)


@pytest.fixture(scope="module", params=CAUSAL)
def run(shop, small_config, request, tmp_path_factory):
    settings = {
        "model.encoder": request.param,
        "train.item_init": "cooccurrence",
        "train.teacher": 0.2,
        "train.label_smoothing": 0.05,
        "train.ema": 0.5,
    }
    config = apply_overrides(small_config, settings)
    return train(shop, config, tmp_path_factory.mktemp("run"), progress=False)


def every_place(model, codes, users):
    table = model.history_lookup.table.numpy()
    flat = model.user_encoder(codes, table[codes], users, n_targets=0).numpy()
    return flat.reshape(*codes.shape, -1)


@pytest.fixture(scope="module")
def users(shop, model):
    return model.features.encode_users(shop.users.head(5))


def test_a_later_event_changes_no_earlier_embedding(model, users):
    rng = np.random.default_rng(2)
    codes = rng.integers(0, model.n_items + 1, (5, model.config.model.history_length))
    wanted = every_place(model, codes, users)
    for place in range(codes.shape[1]):
        changed = codes.copy()
        changed[:, place] = changed[:, place] % model.n_items + 1
        got = every_place(model, changed, users)
        np.testing.assert_allclose(got[:, :place], wanted[:, :place], atol=1e-6)
        assert np.abs(got[:, place] - wanted[:, place]).max() > 1e-3


def test_every_place_equals_the_embedding_of_the_history_that_ends_there(model, users):
    rng = np.random.default_rng(3)
    codes = rng.integers(1, model.n_items + 1, (5, model.config.model.history_length))
    codes[0, :3] = 0
    together = every_place(model, codes, users)
    for place in range(codes.shape[1]):
        apart = model.encode_users(codes[:, : place + 1], users)
        np.testing.assert_allclose(together[:, place], apart, atol=1e-5)


def test_kinds_and_ages_of_events_are_read(shop, small_config):
    kinds = pl.Series("kind", list(itertools.islice(itertools.cycle(["view", "buy"]), 480)))
    with_kinds = type(shop)("shop", shop.events.with_columns(kinds), shop.items, shop.users)
    declared = {"history": {"kind": "history", "event_kinds": True, "ages": True}}
    for name in CAUSAL:
        config = apply_overrides(small_config, {"data.features": declared})
        model = build(with_kinds, config, encoder=name)
        users = model.features.encode_users(with_kinds.users.head(3))
        codes = np.tile(np.arange(1, 6), (3, 1))
        plain = {
            "history_kinds": np.ones(codes.shape, np.int64),
            "history_ages": np.tile(np.arange(5, 0, -1, dtype=np.float32), (3, 1)),
        }
        wanted = model.encode_users(codes, users | plain)
        other_kind = plain | {"history_kinds": plain["history_kinds"] + (codes == 2)}
        assert np.abs(model.encode_users(codes, users | other_kind) - wanted).max() > 1e-4
        older = plain | {"history_ages": plain["history_ages"] * 30}
        assert np.abs(model.encode_users(codes, users | older) - wanted).max() > 1e-4
        later = plain | {"history_ages": plain["history_ages"] + 7}  # now is 7 days later
        np.testing.assert_allclose(model.encode_users(codes, users | later), wanted, atol=1e-5)


def test_the_graph_matches_keras_on_hard_batches(model):
    served = model.serving_user_model(model.refresh())
    proto = keras_to_onnx(served, "user_embedding")
    features = model.features
    inputs = [*features.history_inputs, *features.side("user")]
    n_codes = {f.name: f.n_codes for f in inputs if f.form in ("code", "codes")}
    assert check_parity(proto, served, random_batches(served, n_codes)) < 2e-5


def test_onnx_runtime_fuses_the_norms_of_the_transformer(shop, small_config, tmp_path):
    import onnx
    import onnxruntime

    model = build(shop, small_config, encoder="transformer", n_blocks=2)
    proto = keras_to_onnx(model.serving_user_model(model.refresh()), "user_embedding")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    onnxruntime.InferenceSession(proto.SerializeToString(), options)
    fused = [node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node]
    assert fused.count("LayerNormalization") == 5


def test_a_causal_encoder_learns_the_pattern_and_its_bundle_passes_the_gate(run, tmp_path):
    losses = [row["loss"] for row in run.history]
    assert losses[-1] < losses[0]
    assert evaluate(run.ranker(), run.split, on="test")["NDCG@10"] > 0.5
    report = export_bundle(run, tmp_path / "x.shortlist")
    assert report.parity.n_users > 0


@pytest.mark.parametrize("run", ["gru", *map(slow, ["transformer", "hstu"])], indirect=True)
def test_an_interrupted_run_resumes_to_exactly_the_same_end(run, shop, tmp_path):
    def stop(epoch, row):
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(shop, run.config, tmp_path / "run", progress=False, on_epoch=stop)
    again = train(shop, run.config, tmp_path / "run", resume=True, progress=False)
    wanted = run.two_tower.get_weights()
    for name, weight in again.two_tower.get_weights().items():
        np.testing.assert_array_equal(weight, wanted[name])


def test_a_causal_encoder_trains_on_sampled_items(shop, small_config, tmp_path):
    settings = {"train.loss": "sampled", "train.n_negatives": 20, "model.encoder": "transformer"}
    run = train(shop, apply_overrides(small_config, settings), tmp_path / "run", progress=False)
    assert run.history[-1]["loss"] < run.history[0]["loss"]
    assert evaluate(run.ranker(), run.split, on="test")["NDCG@10"] > 0.5


def test_batches_of_like_lengths_hold_every_event_once():
    lengths = np.random.default_rng(0).integers(1, 30, 50)
    codes = np.arange(1, lengths.sum() + 1)
    sequences = Sequences(codes, lengths, history_length=24, is_causal=True)
    batches = list(sequences.batches(40, seed=1, epoch=0))
    assert len(batches) == sequences.n_steps(40)
    ends = np.cumsum(lengths)
    seen = []
    for batch in (b.trimmed() for b in batches):
        assert batch.history.shape == batch.target.shape == batch.weight.shape
        for history, target, weight in zip(batch.history, batch.target, batch.weight, strict=True):
            seen += target[weight > 0].tolist()
            for before, code in zip(history[weight > 0], target[weight > 0], strict=True):
                is_first = code - 1 in (0, *ends)
                assert before == (0 if is_first else code - 1)
    assert sorted(seen) == codes.tolist()
    n_places = sum(batch.trimmed().target.size for batch in batches)
    assert n_places < 0.8 * sum(batch.target.size for batch in batches)


def test_heads_that_do_not_divide_the_width_are_refused(shop, small_config):
    with pytest.raises(DataError, match=r"model\.n_heads: got 3, expected a divisor of .*dim = 8"):
        build(shop, small_config, encoder="transformer", n_heads=3)


def test_a_teacher_needs_the_full_softmax(shop, small_config, tmp_path):
    settings = {"train.teacher": 0.1, "train.loss": "sampled", "model.encoder": "transformer"}
    with pytest.raises(DataError, match=r"train\.teacher: got 0\.1 with the sampled softmax"):
        train(shop, apply_overrides(small_config, settings), tmp_path / "run", progress=False)


def test_the_encoder_of_the_documentation_plugs_in(shop, small_config, tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs/encoders.md").read_text(encoding="utf-8")
    code = page.split("```python\n")[1].split("```")[0]
    (tmp_path / "my_encoders.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    config = apply_overrides(
        small_config, {"model.encoder": "my_encoders:LastItem", "train.epochs": 3}
    )
    run = train(shop, config, tmp_path / "run", progress=False)
    assert run.history[-1]["loss"] < run.history[0]["loss"]
    report = export_bundle(run, tmp_path / "own.shortlist")
    assert report.parity.n_users > 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:X", r"model\.encoder: got 'no_such_module:X': No module named"),
        ("numpy:no_such", r"model\.encoder: got 'numpy:no_such': .*no_such"),
        ("keras.layers:Dense", r"expected a subclass of keras\.layers\.Layer with an attribute"),
        ("numpy:mean", r"expected a subclass of keras\.layers\.Layer"),
    ],
)
def test_what_is_no_encoder_is_refused(shop, small_config, name, message):
    with pytest.raises(DataError, match=message):
        build(shop, small_config, encoder=name)


def test_a_trimmed_row_of_shared_targets_keeps_its_items_and_all_its_targets():
    lengths = np.array([3, 5, 2])
    codes = np.arange(1, lengths.sum() + 1)
    sequences = Sequences(codes, lengths, history_length=50, n_targets=4)
    (batch,) = sequences.batches(100, seed=1, epoch=0)
    cut = batch.trimmed()
    assert cut.history.shape[1] == 8 < batch.history.shape[1]
    np.testing.assert_array_equal(cut.history, batch.history[:, -8:])
    assert not batch.history[:, :-8].any()
    np.testing.assert_array_equal(cut.target, batch.target)
    np.testing.assert_array_equal(cut.weight, batch.weight)
