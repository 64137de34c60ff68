"""Masks that cancel: every two parties share a stream, which one adds and the other takes off.

Arithmetic is that of uint64, modulo 2^64. A masked number alone is uniformly random to all who lack
the secrets; the sum over all parties is the sum without masks.
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

_AT_ONCE = 1 << 17  # numbers: 1 MiB stays in the cache


def add_masks(
    values: npt.NDArray[np.int64], key: Key, parties: Sequence[Party], plan: str, tensor: str
) -> npt.NDArray[np.uint64]:
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
    """
    masked = values.astype(np.int64).ravel().view(np.uint64).copy()
    zeros, buffer = bytes(8 * _AT_ONCE), bytearray(8 * _AT_ONCE + 16)
    for other in parties:
        if other.name == key.name:
            continue
        stream = _stream(key.secret_with(other), plan, tensor)
        for start in range(0, len(masked), _AT_ONCE):
            block = masked[start : start + _AT_ONCE]
            stream.update_into(memoryview(zeros)[: block.nbytes], buffer)
            mask = np.frombuffer(buffer, "<u8", count=len(block))
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
