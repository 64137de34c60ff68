"""User encoders by the name that ``[model] encoder`` gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from shortlist.errors import DataError
from shortlist.training.models.hstu import HstuEncoder
from shortlist.training.models.layers import PoolEncoder
from shortlist.training.models.transformer import TransformerEncoder

if TYPE_CHECKING:
    from shortlist.training.config import ModelConfig
    from shortlist.training.features import FeatureSet

ATTENTION = {"transformer": TransformerEncoder, "hstu": HstuEncoder}


class UserEncoder(Protocol):
    """What the two-tower model asks of a user encoder: a Keras layer with this call.

    Attributes
    ----------
    is_causal : bool
        Whether one row of history gives an embedding after each of its items at no extra cost.
        The training then has as many targets per row as ``model.history_length``.
    """

    is_causal: bool

    def __call__(
        self,
        codes: Any,
        vectors: Any,
        inputs: dict[str, Any],
        *,
        n_targets: int = 1,
        seed: Any = None,
    ) -> Any:
        """Encode users; see `layers.PoolEncoder.call`."""
        ...


def build_user_encoder(model: ModelConfig, features: FeatureSet, seed: int) -> Any:
    """Create the user encoder that the settings name, untrained."""
    shared: dict[str, Any] = {
        "hidden": model.hidden,
        "history_length": model.history_length,
        "dropout": model.dropout,
        "seed": seed,
        "event_features": features.event_features,
        "name": "user_encoder",
    }
    side = features.side("user")
    if model.encoder in ATTENTION:
        if model.dim % model.n_heads:
            raise DataError(
                f"model.n_heads: got {model.n_heads}, expected a divisor of model.dim = {model.dim}"
            )
        return ATTENTION[model.encoder](
            side, model.dim, n_blocks=model.n_blocks, n_heads=model.n_heads, **shared
        )
    return PoolEncoder(side, model.dim, decay=model.decay, **shared)
