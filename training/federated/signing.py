"""Signed records: JSON in one form of writing, and who says so."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from shortlist.errors import DataError
from shortlist.training.federated.keys import Key, Party


def canonical(content: Mapping[str, Any]) -> bytes:
    """Write a record as JSON in the one form that is signed and hashed."""
    text = json.dumps(
        content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return text.encode()


def sha256(content: bytes) -> str:
    """Return the hash as hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def sign_record(content: Mapping[str, Any], key: Key) -> bytes:
    """Write a record with its signature."""
    signature = key.sign(canonical(content)).hex()
    return json.dumps({"content": content, "signature": signature}, indent=1).encode() + b"\n"


def read_record(data: bytes, where: str) -> tuple[dict[str, Any], bytes]:
    """Read a record and its signature, which is not checked yet."""
    try:
        whole = json.loads(data)
        content, signature = whole["content"], bytes.fromhex(whole["signature"])
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{where}: damaged ({error}), expected a signed record. Fix: copy the file again"
        ) from error
    if not isinstance(content, dict):
        raise DataError(f"{where}: got {str(content)[:80]!r}, expected a record")
    return content, signature


def check_signed(content: Mapping[str, Any], signature: bytes, signer: Party, where: str) -> None:
    """Refuse a record that its signer did not sign as it is."""
    if not signer.verify(canonical(content), signature):
        raise DataError(
            f"{where}: the signature of {signer.name} does not fit, expected the record as it was "
            f"signed: it was changed after that. Fix: get the file from {signer.name} again"
        )
