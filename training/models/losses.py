"""Losses of the encoders (softmax, full or sampled; gBCE; BPR) and of the scorer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shortlist.training.data.arrays import Tensor
CHUNK_LOGITS = 1 << 22  # 16 MiB: larger products are hardly faster, larger sums slower
CERTAIN = 1.0 - 1e-6  # an item that is certain has no gradient by dislike; other events move it
HIDDEN_LOGIT = -1e9  # a negative that equals the target must not count against it


def full_softmax(
    users: Tensor,
    items: Tensor,
    target_rows: Tensor,
    weights: Tensor,
    *,
    temperature: float,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of each user's target against the whole catalogue.

    Parameters
    ----------
    users : tensor of shape (batch, dim), float32, unit rows
    items : tensor of shape (n_items, dim), float32, unit rows
    target_rows : tensor of shape (batch,), int64
        Catalogue rows of the targets.
    weights : tensor of shape (batch,), float32
        Weight of each example; 0 leaves it out, below 0 the user disliked the target: its loss is
        −log(1 − p), which pushes it away as far as the model ranks it high.
    temperature : float
        logit = cosine / temperature.
    label_smoothing : float
        Part of the target spread evenly over the catalogue.

    Returns
    -------
    scalar tensor, float32
        Weighted mean loss.
    """
    logits = tf.matmul(users, items, transpose_b=True) / temperature
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(target_rows, logits)
    if label_smoothing > 0.0:
        even = tf.reduce_logsumexp(logits, axis=1) - tf.reduce_mean(logits, axis=1)
        smooth = (1.0 - label_smoothing) * losses + label_smoothing * even
        return signed_mean(losses, smooth, weights)
    return signed_mean(losses, losses, weights)


def chunked_softmax(
    users: Tensor,
    items: Tensor,
    target_rows: Tensor,
    weights: Tensor,
    *,
    temperature: float,
    label_smoothing: float = 0.0,
    taught: Tensor = None,
    taught_share: float = 0.0,
    chunk_logits: int = CHUNK_LOGITS,
) -> Tensor:
    """Compute what `full_softmax` does, and its gradient, without ever holding all logits.

    The gradient is taken together with the loss, some users at a time: one exponential and three
    matrix products for each, and about ``3 × chunk_logits`` numbers of memory.

    Parameters
    ----------
    users, items, target_rows, weights, temperature, label_smoothing
        As for `full_softmax`.
    taught : tuple of tensors, float32, optional
        Mean of the item embeddings by the probabilities that a teacher gives to the items
        (batch, dim), and 1 where it has an opinion (batch, 1); see `teacher.Teacher`.
    taught_share : float
        Part of the target that is spread as the teacher says.
    chunk_logits : int
        Logits at once; those of one user at the least.
    """
    # Cross-entropy with any target distribution q: log-sum-exp of logits − logit of q's mean item.
    share = tf.where(weights < 0.0, 0.0, 1.0)[:, None]
    aims = tf.gather(items, target_rows)
    even_item = tf.reduce_mean(items, axis=0, keepdims=True)
    changed = label_smoothing * (even_item - aims)
    if taught is not None:
        mean_item, knows = taught
        changed += taught_share * knows * (mean_item - aims)
    total = tf.maximum(tf.reduce_sum(tf.abs(weights)), 1e-6)
    n_rows = tf.maximum(1, chunk_logits // tf.shape(items)[0])

    @tf.custom_gradient  # type: ignore[untyped-decorator, unused-ignore]
    def loss_of(users: Tensor, items: Tensor, aims: Tensor) -> Tensor:
        loss, *gradients = _loss_and_gradients(users, items, aims, weights / total, n_rows)
        return loss, lambda above: tuple(above * gradient for gradient in gradients)

    return loss_of(users / temperature, items, aims + share * changed)


def _loss_and_gradients(
    users: Tensor, items: Tensor, aims: Tensor, weights: Tensor, n_rows: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sum the weighted losses of logits ``users · items``; give the gradients of all three."""
    n_users = tf.shape(users)[0]

    def step(start: Tensor, loss: Tensor, of_items: Tensor, parts: Tensor, slopes: Tensor) -> Any:
        part = slice(start, start + n_rows)
        own, weight, aim = users[part], weights[part], aims[part]
        logits = tf.matmul(own, items, transpose_b=True)
        top = tf.reduce_max(logits, axis=1, keepdims=True)
        powers = tf.exp(logits - top)
        mass = tf.reduce_sum(powers, axis=1, keepdims=True)
        entropy = tf.math.log(mass) + top - tf.reduce_sum(own * aim, axis=1, keepdims=True)
        losses, slope = _signed(entropy, weight[:, None])
        # Row i of the gradient by logits is slope · (probabilities − target): never written out.
        of_users = slope * (tf.matmul(powers, items) / mass - aim)
        of_items += tf.matmul(powers, own * slope / mass, transpose_a=True)
        n = start // n_rows
        loss += tf.reduce_sum(losses)
        return start + n_rows, loss, of_items, parts.write(n, of_users), slopes.write(n, slope)

    def growing(width: int) -> Any:
        shape = (None, width)
        return tf.TensorArray(
            tf.float32, 0, dynamic_size=True, element_shape=shape, infer_shape=False
        )

    _, loss, of_items, of_users, slopes = tf.while_loop(
        lambda start, *_: start < n_users,
        step,
        (0, 0.0, tf.zeros_like(items), growing(users.shape[1]), growing(1)),
        parallel_iterations=1,
    )
    return loss, of_users.concat(), of_items, -users * slopes.concat()


def _signed(entropy: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted losses as in `signed_mean`, and their derivatives by the cross-entropy."""
    chance = tf.math.exp(-entropy)
    is_certain = chance >= CERTAIN
    chance = tf.minimum(chance, CERTAIN)
    slope = tf.where(is_certain, 0.0, -chance / (1.0 - chance))
    losses = tf.where(weights < 0.0, -tf.math.log1p(-chance), entropy)
    return losses * tf.abs(weights), tf.where(weights < 0.0, slope, 1.0) * tf.abs(weights)


def sampled_softmax(
    users: Tensor,
    targets: Tensor,
    negatives: Tensor,
    *,
    target_rows: Tensor,
    negative_rows: Tensor,
    log_q: Tensor,
    weights: Tensor,
    temperature: float,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy against the target and shared sampled negatives, with log-Q correction.

    Every logit is lowered by the log of the expected number of times its item is drawn, which
    makes the loss an estimate of the full softmax (Bengio & Senécal 2008; Yi et al. 2019).

    Parameters
    ----------
    users, targets : tensors of shape (batch, dim), float32, unit rows
    negatives : tensor of shape (n_negatives, dim), float32, unit rows
    target_rows, negative_rows : tensors of shape (batch,) and (n_negatives,), int64
        Catalogue rows; a negative equal to an example's target is hidden from it.
    log_q : tensor of shape (n_items,), float32
        Log of the probability with which the sampler draws each row.
    weights, temperature, label_smoothing
        As for `full_softmax`; smoothing spreads over the sampled items.
    """
    log_count = tf.math.log(tf.cast(tf.shape(negative_rows)[0], tf.float32))
    lower = tf.gather(log_q, negative_rows) + log_count
    is_target = tf.equal(tf.cast(target_rows, tf.int32)[:, None], tf.cast(negative_rows, tf.int32))
    aims, lower_aim = targets, tf.zeros_like(weights)
    if label_smoothing > 0.0:
        # As in `chunked_softmax`: the loss needs the mean of what the target is spread over.
        shown = tf.cast(tf.logical_not(is_target), tf.float32)
        n_shown = 1.0 + tf.reduce_sum(shown, axis=1)
        share = label_smoothing * tf.where(weights < 0.0, 0.0, 1.0) / n_shown
        even = targets + tf.matmul(shown, negatives) - n_shown[:, None] * targets
        aims, lower_aim = aims + share[:, None] * even, share * tf.linalg.matvec(shown, lower)
    total = tf.maximum(tf.reduce_sum(tf.abs(weights)), 1e-6)

    @tf.custom_gradient  # type: ignore[untyped-decorator, unused-ignore]
    def loss_of(users: Tensor, targets: Tensor, negatives: Tensor, aims: Tensor) -> Any:
        # The target stands for itself, it was not drawn: its logit stays as it is.
        positive = tf.reduce_sum(users * targets, axis=1, keepdims=True)
        logits = tf.matmul(users, negatives, transpose_b=True) - lower
        logits = tf.where(is_target, HIDDEN_LOGIT, logits)
        top = tf.maximum(tf.reduce_max(logits, axis=1, keepdims=True), positive)
        powers, own = tf.exp(logits - top), tf.exp(positive - top)
        mass = tf.reduce_sum(powers, axis=1, keepdims=True) + own
        aimed = tf.reduce_sum(users * aims, axis=1, keepdims=True) - lower_aim[:, None]
        entropy = tf.math.log(mass) + top - aimed
        losses, slope = _signed(entropy, (weights / total)[:, None])

        def gradient(above: Tensor) -> tuple[Tensor, ...]:
            by_mass = above * slope / mass
            of_users = by_mass * (tf.matmul(powers, negatives) + own * targets)
            of_negatives = tf.matmul(powers, by_mass * users, transpose_a=True)
            of_aims = -above * slope
            return of_users + of_aims * aims, by_mass * own * users, of_negatives, of_aims * users

        return tf.reduce_sum(losses), gradient

    return loss_of(users / temperature, targets, negatives, aims)


def gbce(
    users: Tensor,
    targets: Tensor,
    negatives: Tensor,
    *,
    target_rows: Tensor,
    negative_rows: Tensor,
    weights: Tensor,
    temperature: float,
    n_items: int,
    calibration: float = 0.75,
) -> Tensor:
    """Binary cross-entropy that does not grow overconfident on sampled negatives (gBCE).

    ``−β · log σ(target) − Σ log(1 − σ(negative))`` with ``β = α (t (1 − 1/α) + 1/α)`` and α the
    part of the catalogue that is drawn (Petrov and Macdonald, RecSys 2023). A disliked target
    counts as one more negative.

    Parameters
    ----------
    users, targets, negatives, target_rows, negative_rows, weights, temperature
        As for `sampled_softmax`; the negatives should be drawn evenly.
    n_items : int
        Items of the catalogue.
    calibration : float
        t: 0 is plain binary cross-entropy, 1 removes the bias of sampling.
    """
    positive, logits, shown = _sampled_logits(
        users, targets, negatives, target_rows, negative_rows, temperature
    )
    drawn = tf.minimum(tf.cast(tf.shape(negative_rows)[0], tf.float32) / max(1, n_items - 1), 1.0)
    beta = drawn * (calibration * (1.0 - 1.0 / drawn) + 1.0 / drawn)
    # −log σ(x) is softplus(−x), and −log(1 − σ(x)) is softplus(x).
    pushed = tf.reduce_sum(tf.nn.softplus(logits) * shown, axis=1)
    liked = beta * tf.nn.softplus(-positive) + pushed
    losses = tf.where(weights < 0.0, tf.nn.softplus(positive), liked)
    return weighted_mean(losses, tf.abs(weights))


def bpr(
    users: Tensor,
    targets: Tensor,
    negatives: Tensor,
    *,
    target_rows: Tensor,
    negative_rows: Tensor,
    weights: Tensor,
    temperature: float,
) -> Tensor:
    """Bayesian personalised ranking: mean of −log σ(target − negative) (Rendle et al., UAI 2009).

    A disliked target should come after the negatives instead. Arguments as for `sampled_softmax`.
    """
    positive, logits, shown = _sampled_logits(
        users, targets, negatives, target_rows, negative_rows, temperature
    )
    lead = (positive[:, None] - logits) * tf.sign(weights)[:, None]
    total = tf.reduce_sum(tf.nn.softplus(-lead) * shown, axis=1)
    return weighted_mean(total / tf.maximum(tf.reduce_sum(shown, axis=1), 1.0), tf.abs(weights))


def _sampled_logits(
    users: Tensor,
    targets: Tensor,
    negatives: Tensor,
    target_rows: Tensor,
    negative_rows: Tensor,
    temperature: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of targets (batch,) and negatives (batch, n), and 0 where a negative is the target."""
    positive = tf.reduce_sum(users * targets, axis=1) / temperature
    logits = tf.matmul(users, negatives, transpose_b=True) / temperature
    is_other = tf.not_equal(target_rows[:, None], negative_rows[None, :])
    return positive, logits, tf.cast(is_other, tf.float32)


def signed_mean(losses: Tensor, smooth: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of ``smooth`` where weights are above 0, of −log(1 − exp(−losses)) below."""
    chance = tf.math.exp(-losses)
    disliked = -tf.math.log1p(-tf.minimum(chance, CERTAIN))
    return weighted_mean(tf.where(weights < 0.0, disliked, smooth), tf.abs(weights))


def mean_squared_error(targets: Tensor, scores: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of (score − target)²; all tensors (batch,) float32."""
    return weighted_mean(tf.square(scores - targets), weights)


def binary_cross_entropy(targets: Tensor, scores: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean cross-entropy of targets in 0..1 and scores in 0..1; tensors (batch,)."""
    scores = tf.clip_by_value(scores, 1e-7, 1.0 - 1e-7)
    losses = -targets * tf.math.log(scores) - (1.0 - targets) * tf.math.log(1.0 - scores)
    return weighted_mean(losses, weights)


def candidate_softmax(targets: Tensor, scores: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy of each request's targets among its candidates.

    Parameters
    ----------
    targets : tensor of shape (n, m), float32
        1 for targets, else 0; several targets share the mass, a row without one does not count.
    scores : tensor of shape (n, m), float32
    weights : tensor of shape (n, m), float32
        0 where there is no candidate.
    """
    there = tf.cast(weights > 0, tf.float32)
    logits = tf.where(there > 0, scores, HIDDEN_LOGIT)
    share = targets * there
    total = tf.reduce_sum(share, axis=1)
    losses = -tf.reduce_sum(share * tf.nn.log_softmax(logits) * there, axis=1)
    return weighted_mean(losses / tf.maximum(total, 1.0), tf.cast(total > 0, tf.float32))


def weighted_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """Sum of losses × weights over the sum of weights; 0 when all weights are 0."""
    return tf.reduce_sum(losses * weights) / tf.maximum(tf.reduce_sum(weights), 1e-6)


class NegativeSampler:
    """Draws catalogue rows with probability ∝ (train count + 1)^power.

    Parameters
    ----------
    counts : ndarray of shape (n_items,), integer
        How often each item is a target in the train part.
    power : float
        1 = by popularity, 0 = evenly.

    Attributes
    ----------
    log_q : ndarray of shape (n_items,), float32
        Log probability of each row.
    """

    def __init__(self, counts: NDArray[np.int64], power: float = 0.75) -> None:
        mass = (counts.astype(np.float64) + 1.0) ** power
        self._cumulative = np.cumsum(mass) / mass.sum()
        self._cumulative[-1] = 1.0
        self.log_q = np.log(mass / mass.sum()).astype(np.float32)

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw n rows, with replacement."""
        return np.searchsorted(self._cumulative, rng.random(n), side="right").astype(np.int64)
