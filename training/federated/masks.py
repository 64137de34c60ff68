"""Masks that cancel: every two parties share a stream, which one adds and the other takes off.

Arithmetic is that of unsigned words, modulo 2^64 or 2^32. A masked number alone is uniformly random
to all who lack the secrets; the sum over all parties is the sum without masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shortlist.training.federated.keys import Key, Party

_AT_ONCE = 1 << 20  # bytes: they stay in the cache


def add_masks(
    values: npt.NDArray[np.int64],
    key: Key,
    parties: Sequence[Party],
    plan: str,
    tensor: str,
    *,
    bits: int = 64,
) -> npt.NDArray[np.unsignedinteger]:
    """Return the numbers with this party's masks for all others.

    Parameters
    ----------
    values : ndarray of int64
    key : Key
    parties : sequence of Party
        All of the plan; the key's own is among them.
    plan : str
        Hash of the plan: each has streams of its own.
    tensor : str
        What the numbers are: each has a stream of its own. The same numbers only may be masked
        twice: the difference of two masked messages shows that of the numbers.
    bits : int
        Of a number that is sent, 64 or 32.
    """
    word = np.dtype(f"<u{bits // 8}")
    masked = np.asarray(values, np.int64).ravel().astype(word)
    zeros, buffer = bytes(_AT_ONCE), bytearray(_AT_ONCE + 16)
    n_at_once = _AT_ONCE // word.itemsize
    for other in parties:
        if other.name == key.name:
            continue
        stream = _stream(key.secret_with(other), plan, tensor)
        for start in range(0, len(masked), n_at_once):
            block = masked[start : start + n_at_once]
            stream.update_into(memoryview(zeros)[: block.nbytes], buffer)
            mask = np.frombuffer(buffer, word, count=len(block))
            if key.name < other.name:
                block += mask
            else:
                block -= mask
    return masked.reshape(values.shape)


def _stream(secret: bytes, plan: str, tensor: str) -> Any:
    info = f"shortlist mask 1 | {tensor}".encode()
    key = HKDF(hashes.SHA256(), 32, salt=bytes.fromhex(plan), info=info).derive(secret)
    # The key is used once, so the counter may start at 0.
    return Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
