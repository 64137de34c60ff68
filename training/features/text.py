"""Text → codes of hashed words and character n-grams, as graph nodes of ONNX Runtime.

Words are cut with a regular expression (letters and digits together; one Chinese character or one
emoji is a word), pairs of neighbouring words and character n-grams are hashed too. Training runs
these very nodes (`hash_text`), so no second implementation can differ. Tokenizer and MurmurHash3
are ONNX Runtime's own operators (com.microsoft), in every build of it; standard ONNX has no hash.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper

from shortlist.training.graphs.nodes import Nodes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shortlist.training.config.feature_spec import FeatureSpec

RUNTIME_DOMAIN = "com.microsoft"
WORD = r"\p{Han}|\p{So}|(?:[^\PL\p{Han}]|\pN|\pM)+"  # RE2 syntax
PRIME = 2**31 - 1
FACTOR = 1_000_003  # (hash < 2**32) * FACTOR stays below 2**63
CHUNK = 8192  # texts hashed at once in training


def text_nodes(spec: FeatureSpec, source: str, output: str) -> list[Any]:
    """Make the nodes from text (batch,) to codes (batch, any) int64.

    Codes 1 … buckets are words and pairs, buckets + 1 … 2 · buckets character n-grams, 0 is
    padding. Only ASCII is lower-cased: the "C" locale is the only one every machine has.
    """
    nodes = Nodes(source)
    text = source
    if spec.lowercase:
        text = nodes.add("StringNormalizer", text, case_change_action="LOWER", locale="C")
    parts = []
    if spec.word_ngrams:
        words = _hashes(nodes, text, spec.max_words, tokenexp=WORD)
        parts.append(_codes(nodes, words, 1, spec.buckets, 0))
        if spec.word_ngrams == 2:
            parts.append(_codes(nodes, words, 2, spec.buckets, 0))
    if spec.char_ngrams:
        characters = _hashes(nodes, text, spec.max_chars, separators=[""])
        parts.append(_codes(nodes, characters, spec.char_ngrams, spec.buckets, spec.buckets))
    nodes.add("Concat", *parts, axis=1)
    nodes.rename_last(output)
    return nodes.nodes


def _hashes(nodes: Nodes, text: str, limit: int, **cut: Any) -> str:
    """Cut texts into tokens and hash each: int64 (batch, at most limit), 0 = no token."""
    tokens = nodes.add(
        "Tokenizer", text, domain=RUNTIME_DOMAIN, mark=0, pad_value="", mincharnum=1, **cut
    )
    first = nodes.add(
        "Slice",
        tokens,
        nodes.constant([0], np.int64),
        nodes.constant([limit], np.int64),
        nodes.constant([1], np.int64),
    )
    # The hash of "" with seed 0 is 0, so padding needs no other mark.
    hashed = nodes.add("MurmurHash3", first, domain=RUNTIME_DOMAIN, seed=0, positive=1)
    return nodes.add("Cast", hashed, to=TensorProto.INT64)


def _codes(nodes: Nodes, hashes: str, length: int, buckets: int, offset: int) -> str:
    """Combine each `length` neighbouring hashes to a code; 0 where one of them is padding."""
    prime, factor = nodes.constant(PRIME, np.int64), nodes.constant(FACTOR, np.int64)
    padded = hashes
    if length > 1:
        pads = nodes.constant([0, 0, 0, length - 1], np.int64)
        padded = nodes.add("Pad", hashes, pads)
    combined = least = ""
    axis = nodes.constant([1], np.int64)
    for i in range(length):
        part = padded
        if length > 1:
            start = nodes.constant([i], np.int64)
            stop = nodes.constant([i - length + 1 or 2**31 - 1], np.int64)
            part = nodes.add("Slice", padded, start, stop, axis)
        least = nodes.add("Min", least, part) if least else part
        total = part
        if combined:
            total = nodes.add("Add", nodes.add("Mul", combined, factor), part)
        else:
            total = nodes.add("Add", total, nodes.constant(length, np.int64))
        combined = nodes.add("Mod", total, prime)
    mixed = nodes.add("Mod", nodes.add("Mul", combined, factor), prime)
    bucket = nodes.add("Mod", mixed, nodes.constant(buckets, np.int64))
    code = nodes.add("Add", bucket, nodes.constant(offset + 1, np.int64))
    is_there = nodes.add("Greater", least, nodes.constant(0, np.int64))
    return nodes.add("Where", is_there, code, nodes.constant(0, np.int64))


def hash_text(spec: FeatureSpec, texts: NDArray[Any]) -> NDArray[np.int64]:
    """Run the nodes on texts (n,) object (str): codes (n, longest) int64, longest >= 1."""
    session = _session(spec)
    parts = [
        session.run(["codes"], {"text": texts[i : i + CHUNK]})[0]
        for i in range(0, len(texts), CHUNK)
    ]
    width = max((part.shape[1] for part in parts), default=0) or 1
    codes = np.zeros((len(texts), width), np.int64)
    for i, part in enumerate(parts):
        codes[i * CHUNK : i * CHUNK + len(part), : part.shape[1]] = part
    return codes


@lru_cache(maxsize=16)
def _session(spec: FeatureSpec) -> Any:
    from shortlist.training.graphs.sessions import open_session

    graph = helper.make_graph(
        text_nodes(spec, "text", "codes"),
        "text",
        [helper.make_tensor_value_info("text", TensorProto.STRING, ["batch"])],
        [helper.make_tensor_value_info("codes", TensorProto.INT64, ["batch", "n_codes"])],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(RUNTIME_DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return open_session(model.SerializeToString(), name="text", n_threads=1)
