"""Several encoders side by side in one embedding (model.n_members)."""

import numpy as np
import pytest

import shortlist
from shortlist.errors import DataError
from shortlist.export.writer import export_bundle
from shortlist.training.config.settings import apply_overrides
from shortlist.training.features.features import FeatureSet, align_items
from shortlist.training.fit.fit import load_run, train
from shortlist.training.fit.loop import Loop
from shortlist.training.models.two_tower import TwoTower
from shortlist.training.pipeline import evaluation
from shortlist.training.splits.split import leave_one_out

WIDTH = 8  # of each member


def slow(value):
    return pytest.param(value, marks=pytest.mark.slow)


def build(shop, config, **settings):
    config = apply_overrides(config, {f"model.{k}": v for k, v in settings.items()})
    split = leave_one_out(shop)
    features = FeatureSet.fit(shop, split, config)
    return TwoTower(config, features, features.encode_items(align_items(shop, split.catalogue)))


def halves(vectors):
    return vectors[..., :WIDTH], vectors[..., WIDTH:]


@pytest.mark.parametrize("encoder", ["pool", "transformer"])
def test_a_score_is_the_mean_of_the_members_cosines(shop, small_config, encoder):
    model = build(shop, small_config, encoder=encoder, dim=2 * WIDTH, n_members=2)
    users = model.features.encode_users(shop.users.head(3))
    codes = np.array([[0, 0, 3, 1], [5, 2, 2, 9], [0, 0, 0, 0]])
    items = model.refresh()
    found = model.encode_users(codes, users)
    wanted = 0.0
    table = np.concatenate([np.zeros((1, 2 * WIDTH), np.float32), items])
    for member, own in zip(model.user_encoder.members, halves(table), strict=True):
        own = own / np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-9)
        alone = member(codes, own[codes], users).numpy()
        np.testing.assert_allclose(np.linalg.norm(alone, axis=1), 1.0, atol=1e-5)
        wanted = wanted + alone @ own[1:].T / 2
    np.testing.assert_allclose(found @ items.T, wanted, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(items, axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize("loss", ["full", "sampled"])
@pytest.mark.parametrize("encoder", ["pool", slow("transformer")])
def test_members_learn_without_each_other(shop, small_config, tmp_path, encoder, loss):
    settings = {"model.encoder": encoder, "model.dim": 2 * WIDTH, "model.n_members": 2}
    config = apply_overrides(small_config, settings | {"train.loss": loss})
    rng = np.random.default_rng(4)
    after = []
    for other in (0.0, 1.0):
        model = build(shop, config)
        for weight in model.user_encoder.members[1].trainable_variables:
            weight.assign(weight + other * rng.normal(size=weight.shape))
        for weight in model.item_encoder.trainable_variables:
            own, rest = halves(weight.numpy())
            noise = other * rng.normal(size=rest.shape).astype(np.float32)
            weight.assign(np.concatenate([own, rest + noise], axis=-1))
        loop = Loop(model, config, leave_one_out(shop), tmp_path / f"{other}.run")
        for batch in loop.windows.batches(64, seed=1, epoch=1):
            loop.step(batch, epoch=1)
        own = [w.numpy() for w in model.user_encoder.members[0].trainable_variables]
        after.append(
            [*own, *(halves(w.numpy())[0] for w in model.item_encoder.trainable_variables)]
        )
    before = build(shop, config).user_encoder.members[0].trainable_variables
    assert any(not np.array_equal(a, b.numpy()) for a, b in zip(after[0], before, strict=False))
    for first, second in zip(*after, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-6)


@pytest.mark.parametrize("encoder", ["pool", *map(slow, ["transformer", "gru", "hstu"])])
def test_an_ensemble_trains_and_its_bundle_answers_alike(shop, small_config, tmp_path, encoder):
    settings = {"model.encoder": encoder, "model.dim": 16, "model.n_members": 2}
    settings |= {"train.item_init": "cooccurrence", "train.teacher": 0.2}
    run = train(shop, apply_overrides(small_config, settings), tmp_path / "a.run", progress=False)
    assert run.metrics["HR@10"] > 0.5
    export_bundle(run, tmp_path / "a.shortlist")
    with shortlist.load(tmp_path / "a.shortlist") as engine:
        rankers = evaluation.bundle_rankers("bundle", engine, run.split)
        lists = evaluation.evaluate_rankers(rankers, run.split, on="valid", baselines=False)
    found = lists["bundle"].metrics()
    assert found == pytest.approx(run.metrics | found, abs=5e-5)
    again = load_run(tmp_path / "a.run").two_tower
    np.testing.assert_array_equal(again.item_vectors(), run.two_tower.item_vectors())


def test_members_that_do_not_divide_the_width_are_refused(shop, small_config):
    with pytest.raises(DataError, match=r"model\.n_members: got 3, .* divisor of model\.dim = 16"):
        build(shop, small_config, dim=16, n_members=3)
    with pytest.raises(DataError, match=r"n_heads: got 4, .*model\.dim / model\.n_members = 6"):
        build(shop, small_config, encoder="transformer", dim=12, n_members=2, n_heads=4)
