import keras
import numpy as np
import pytest
import tensorflow as tf

from shortlist.errors import DataError
from shortlist.training.config.settings import apply_overrides
from shortlist.training.fit.fit import train
from shortlist.training.fit.lazy_adam import LazyAdam


def table_of(values):
    return keras.Variable(np.asarray(values, np.float32))


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_with_all_rows_in_every_step_it_is_adam(decay):
    rng = np.random.default_rng(0)
    start = rng.normal(size=(4, 3))
    lazy, dense = table_of(start), table_of(start)
    optimizer = keras.optimizers.Adam(0.01, weight_decay=decay or None)
    rows = LazyAdam([lazy], weight_decay=decay)
    for step in range(1, 6):
        slope = rng.normal(size=(4, 3)).astype(np.float32)
        optimizer.apply([tf.constant(slope)], [dense])
        # Row 2 comes in two halves: repeated rows are summed.
        values, places = np.concatenate([slope, slope[2:3] / 2]), [0, 1, 2, 3, 2]
        values[2] /= 2
        slices = tf.IndexedSlices(tf.constant(values), tf.constant(places))
        rows.apply([slices], iteration=tf.constant(step), learning_rate=tf.constant(0.01))
    np.testing.assert_allclose(lazy.numpy(), dense.numpy(), atol=2e-6)
    assert np.abs(lazy.numpy() - start).max() > 0.03


def test_rows_that_a_step_does_not_use_stay_bit_for_bit():
    table = table_of(np.ones((5, 2)))
    rows = LazyAdam([table], weight_decay=0.1)
    slices = tf.IndexedSlices(tf.ones((1, 2)), tf.constant([3]))
    for step in range(1, 4):
        rows.apply([slices], iteration=tf.constant(step), learning_rate=tf.constant(0.01))
    assert (table.numpy()[[0, 1, 2, 4]] == 1.0).all()
    assert (table.numpy()[3] < 0.98).all()
    assert all((moment.numpy()[[0, 1, 2, 4]] == 0.0).all() for moment in rows.variables)


def test_an_interrupted_run_on_sampled_items_resumes_to_exactly_the_same_end(
    shop, small_config, tmp_path
):
    settings = {"train.loss": "sampled", "train.n_negatives": 20, "train.ema": 0.5}
    config = apply_overrides(small_config, settings | {"train.epochs": 4})

    def stop(epoch, row):
        if epoch == 2:
            raise KeyboardInterrupt

    wanted = train(shop, config, tmp_path / "whole", progress=False)
    with pytest.raises(KeyboardInterrupt):
        train(shop, config, tmp_path / "run", progress=False, on_epoch=stop)
    again = train(shop, config, tmp_path / "run", resume=True, progress=False)
    found = again.two_tower.get_weights()
    for name, weight in wanted.two_tower.get_weights().items():
        np.testing.assert_array_equal(found[name], weight)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"train.loss": "full"}, "the full softmax"), ({"train.optimizer": "sgd"}, "sgd")],
)
def test_lazy_needs_adam_on_sampled_items(shop, small_config, tmp_path, settings, said):
    wanted = {"train.loss": "sampled", "train.n_negatives": 20, "train.tables": "lazy"}
    config = apply_overrides(small_config, wanted | settings)
    with pytest.raises(DataError, match=rf"train\.tables: got 'lazy' with {said}"):
        train(shop, config, tmp_path / "run", progress=False)
