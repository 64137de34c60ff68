"""The recurrence of a GRU: one product over all places, then a loop with one product a place.

Gates z (how much stays) and r (how much the candidate sees), the bias of the candidate's recurrent
part inside r: ONNX's GRU with ``linear_before_reset``, gates in its order and weights in its form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from shortlist.training.models import stand_ins

if TYPE_CHECKING:
    from shortlist.training.data.arrays import Tensor


def last_states(
    values: Tensor, n_known: Tensor, first: Tensor, *weights: Tensor, run: Callable[..., Any]
) -> tuple[Tensor, Tensor]:
    """Run over right-padded rows; while a graph is exported, as one operation.

    Parameters
    ----------
    values : tensor of shape (length, batch, n_in), float32
    n_known : tensor of shape (batch,), int32
        Places of each row that count, at least 1.
    first : tensor of shape (batch, n_units), float32
        State before the first place.
    weights : three tensors, float32
        As for `every_state`.
    run : callable
        `every_state`, compiled or not.

    Returns
    -------
    tensors of shape (length, batch, n_units) and (batch, n_units), float32
        States after each place (behind ``n_known``: anything) and after the last that counts.
    """
    if stand_ins.present() is not None:
        return stand_ins.gru(values, n_known, first, *weights)
    states = run(values, first, *weights)
    places = tf.stack([n_known - 1, tf.range(tf.shape(n_known)[0])], axis=1)
    return states, tf.gather_nd(states, places)


def every_state(
    values: Tensor, first: Tensor, kernel: Tensor, recurrent: Tensor, bias: Tensor
) -> Tensor:
    """Give the states after each place, with a gradient.

    Parameters
    ----------
    values : tensor of shape (length, batch, n_in), float32
    first : tensor of shape (batch, n_units), float32
        State before the first place.
    kernel, recurrent : tensors of shape (3 * n_units, n_in), (3 * n_units, n_units), float32
    bias : tensor of shape (6 * n_units,), float32
        Three of the kernel, three of the recurrent part.

    Returns
    -------
    tensor of shape (length, batch, n_units), float32
    """
    n_gates = 3 * recurrent.shape[1]
    of_input = tf.tensordot(values, kernel, [[2], [1]]) + bias[:n_gates]
    return _recur(of_input, first, recurrent, bias[n_gates:])


def _cell(of_input: Tensor, state: Tensor, recurrent: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
    of_state = tf.matmul(state, recurrent, transpose_b=True) + bias
    input_z, input_r, input_n = tf.split(of_input, 3, axis=-1)
    state_z, state_r, state_n = tf.split(of_state, 3, axis=-1)
    z, r = tf.sigmoid(input_z + state_z), tf.sigmoid(input_r + state_r)
    candidate = tf.tanh(input_n + r * state_n)
    return z * state + (1.0 - z) * candidate, z, r, candidate, state_n


def _array(length: Any, width: int) -> Any:
    return tf.TensorArray(tf.float32, size=length, element_shape=(None, width))


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _recur(of_input: Tensor, first: Tensor, recurrent: Tensor, bias: Tensor) -> Tensor:
    """Loop over the places; its gradient sums over all places in one product, not one a place."""
    length, n_units = tf.shape(of_input)[0], recurrent.shape[1]
    rows = _array(length, 3 * n_units).unstack(of_input)

    def forward(place: Tensor, state: Tensor, states: Tensor, parts: Tensor) -> tuple[Tensor, ...]:
        state, *inner = _cell(rows.read(place), state, recurrent, bias)
        written = parts.write(place, tf.concat(inner, axis=-1))
        return place + 1, state, states.write(place, state), written

    arrays = _array(length, n_units), _array(length, 4 * n_units)
    _, _, states, parts = tf.while_loop(
        lambda place, *_: place < length, forward, (0, first, *arrays)
    )
    states, parts = states.stack(), parts.stack()

    def gradient(slope: Tensor) -> tuple[Tensor, ...]:
        before = tf.concat([first[None], states[:-1]], axis=0)
        z, r, candidate, of_state = tf.split(parts, 4, axis=-1)
        of_candidate = (1.0 - z) * (1.0 - tf.square(candidate))
        factors = [
            (before - candidate) * z * (1.0 - z),
            of_candidate * of_state * r * (1.0 - r),
            of_candidate,
        ]
        # What the recurrent part adds to the candidate passes the gate r.
        input_slopes, first_slope = _back(tf.concat(factors, axis=-1), z, r, slope, recurrent)
        state_slopes = _through_gate(input_slopes, r)
        flat = tf.reshape(state_slopes, (-1, 3 * n_units))
        of_recurrent = tf.matmul(flat, tf.reshape(before, (-1, n_units)), transpose_a=True)
        return input_slopes, first_slope, of_recurrent, tf.reduce_sum(flat, axis=0)

    return states, gradient


def _back(
    factors: Tensor, z: Tensor, r: Tensor, slope: Tensor, recurrent: Tensor
) -> tuple[Tensor, Tensor]:
    """Go from the last place to the first: slopes of what is given, and of the first state."""
    length, n_units = tf.shape(factors)[0], recurrent.shape[1]
    every_factor = _array(length, 3 * n_units).unstack(factors)
    every_z, every_r = _array(length, n_units).unstack(z), _array(length, n_units).unstack(r)
    every_slope = _array(length, n_units).unstack(slope)

    def backward(place: Tensor, carried: Tensor, slopes: Tensor) -> tuple[Tensor, ...]:
        carried = carried + every_slope.read(place)
        of_input = tf.tile(carried, (1, 3)) * every_factor.read(place)
        of_state = _through_gate(of_input, every_r.read(place))
        carried = carried * every_z.read(place) + tf.matmul(of_state, recurrent)
        return place - 1, carried, slopes.write(place, of_input)

    none = tf.zeros_like(slope[0])
    _, carried, slopes = tf.while_loop(
        lambda place, *_: place >= 0, backward, (length - 1, none, _array(length, 3 * n_units))
    )
    return slopes.stack(), carried


def _through_gate(slopes: Tensor, r: Tensor) -> Tensor:
    """Turn slopes of what is given into those of the recurrent part."""
    of_gates, of_candidate = tf.split(slopes, [2 * r.shape[-1], r.shape[-1]], axis=-1)
    return tf.concat([of_gates, of_candidate * r], axis=-1)
