"""User encoders by the name that ``[model] encoder`` gives them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol

import keras
from keras import ops

from shortlist.errors import DataError
from shortlist.training.models.gru import GruEncoder
from shortlist.training.models.hstu import HstuEncoder
from shortlist.training.models.layers import fold, take_parts
from shortlist.training.models.pool import PoolEncoder
from shortlist.training.models.transformer import TransformerEncoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shortlist.training.config.sections import ModelConfig
    from shortlist.training.data.arrays import Tensor
    from shortlist.training.features.features import FeatureSet

ATTENTION = {"transformer": TransformerEncoder, "hstu": HstuEncoder}


class UserEncoder(Protocol):
    """What the two-tower model asks of a user encoder: a Keras layer with this call.

    A class of your own, named as ``module:Class``, is made with ``(features, dim, hidden=…,
    history_length=…, dropout=…, seed=…, event_features=…, name=…)``; see docs/encoders.md.

    Attributes
    ----------
    is_causal : bool
        Whether one row of history gives an embedding after each of its items at no extra cost.
        The training then has as many targets per row as ``model.history_length``.
    takes_places : bool
        Whether the call takes ``places``, see `pool.PoolEncoder.call`; without it: no.
    """

    is_causal: bool

    def __call__(
        self,
        codes: Tensor,
        vectors: Tensor,
        inputs: dict[str, Tensor],
        *,
        n_targets: int = 1,
        seed: Tensor = None,
    ) -> Tensor:
        """Encode users; see `pool.PoolEncoder.call`."""
        ...


class Members(keras.layers.Layer):  # type: ignore[misc]
    """Encoders of one kind side by side, each with its own part of the items' vectors.

    They are trained by themselves, from other first weights. The cosine of their joined embeddings
    is the mean of their cosines: an ensemble (Lakshminarayanan et al., NeurIPS 2017) that one index
    searches.
    """

    def __init__(self, members: Sequence[Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.members = list(members)
        self.is_causal: bool = members[0].is_causal
        self.takes_places: bool = getattr(members[0], "takes_places", False)

    def call(
        self,
        codes: Tensor,
        vectors: Tensor,
        inputs: dict[str, Tensor],
        *,
        n_targets: int = 1,
        seed: Tensor = None,
        places: Tensor = None,
    ) -> Tensor:
        """Encode users; see `pool.PoolEncoder.call`."""
        parts = take_parts(vectors, len(self.members))
        more = {} if places is None else {"places": places}
        embeddings = [
            member(codes, part, inputs, n_targets=n_targets, seed=fold(seed, 1000 + i), **more)
            for i, (member, part) in enumerate(zip(self.members, parts, strict=True))
        ]
        return ops.concatenate(embeddings, axis=-1) * len(embeddings) ** -0.5


def build_user_encoder(model: ModelConfig, features: FeatureSet, seed: int) -> Any:
    """Create the user encoder that the settings name, untrained."""
    if model.n_members == 1:
        return _build_member(model, model.dim, features, seed, "user_encoder")
    if model.dim % model.n_members:
        raise DataError(
            f"model.n_members: got {model.n_members}, expected a divisor of model.dim = {model.dim}"
        )
    members = [
        _build_member(
            model, model.dim // model.n_members, features, seed + 10_000 * i, f"member_{i}"
        )
        for i in range(model.n_members)
    ]
    return Members(members, name="user_encoder")


def _build_member(model: ModelConfig, dim: int, features: FeatureSet, seed: int, name: str) -> Any:
    shared: dict[str, Any] = {
        "hidden": model.hidden,
        "history_length": model.history_length,
        "dropout": model.dropout,
        "seed": seed,
        "event_features": features.event_features,
        "name": name,
    }
    side = features.side("user")
    if model.encoder in ATTENTION:
        if model.head_width and model.encoder != "transformer":
            raise DataError(
                f"model.head_width: got {model.head_width} with the encoder {model.encoder!r}, "
                "expected 0; only a transformer has heads of another width than dim / n_heads"
            )
        if dim % model.n_heads and not model.head_width:
            of_members = "" if dim == model.dim else " / model.n_members"
            raise DataError(
                f"model.n_heads: got {model.n_heads}, expected a divisor of model.dim{of_members} "
                f"= {dim}"
            )
        shared |= {"n_blocks": model.n_blocks, "n_heads": model.n_heads}
        return ATTENTION[model.encoder](side, dim, head_width=model.head_width, **shared)
    if model.encoder == "gru":
        return GruEncoder(side, dim, n_blocks=model.n_blocks, **shared)
    if ":" in model.encoder:
        return _own_class(model.encoder)(side, dim, **shared)
    return PoolEncoder(side, dim, decay=model.decay, **shared)


def _own_class(path: str) -> Any:
    module, _, name = path.partition(":")
    try:
        encoder = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise DataError(
            f"model.encoder: got {path!r}: {error}; expected module:Class of a module that Python "
            "can import (PYTHONPATH)"
        ) from error
    is_layer = isinstance(encoder, type) and issubclass(encoder, keras.layers.Layer)
    if not is_layer or not isinstance(getattr(encoder, "is_causal", None), bool):
        raise DataError(
            f"model.encoder: got {path!r}, expected a subclass of keras.layers.Layer with an "
            "attribute is_causal of True or False; see docs/encoders.md"
        )
    return encoder
