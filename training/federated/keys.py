"""Keys of parties: one signs (Ed25519), one agrees on secrets with the others (X25519)."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from shortlist._temporary import folder_for, replacing
from shortlist.errors import DataError

PUBLIC = ".pub"  # of the file beside the key that others get
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


@dataclass(frozen=True)
class Party:
    """What others know of a party.

    Attributes
    ----------
    name : str
    signing, agreement : str
        Public keys, 32 bytes as hexadecimal digits.
    """

    name: str
    signing: str
    agreement: str

    @property
    def fingerprint(self) -> str:
        """The first digits of the key that masks are made with, to compare by telephone."""
        return self.agreement[:8]

    @classmethod
    def read(cls, record: Any, where: str) -> Self:
        """Check a record of JSON."""
        names = ("name", "signing", "agreement")
        is_good = isinstance(record, dict) and all(isinstance(record.get(n), str) for n in names)
        if is_good:
            is_good = _NAME.fullmatch(record["name"]) is not None
            is_good &= all(re.fullmatch("[0-9a-f]{64}", record[n]) for n in names[1:])
        if not is_good:
            raise DataError(
                f"{where}: got {str(record)[:80]!r}, expected the public key of a party. Fix: give "
                f"the file NAME.key{PUBLIC} that `shortlist federate key` wrote"
            )
        return cls(*(record[name] for name in names))

    def verify(self, content: bytes, signature: bytes) -> bool:
        """Say whether the party signed this content."""
        try:
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.signing)).verify(
                signature, content
            )
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True)
class Key:
    """A party's secret keys.

    Attributes
    ----------
    name : str
    signing, agreement : str
        32 bytes each, as hexadecimal digits.
    """

    name: str
    signing: str
    agreement: str

    def __repr__(self) -> str:
        """Say whose key it is, and nothing of the key."""
        return f"Key({self.name!r})"

    @cached_property
    def party(self) -> Party:
        """What others may know."""
        signing = self._signing.public_key().public_bytes_raw().hex()
        agreement = self._agreement.public_key().public_bytes_raw().hex()
        return Party(self.name, signing, agreement)

    def sign(self, content: bytes) -> bytes:
        """Sign: 64 bytes."""
        return self._signing.sign(content)

    def secret_with(self, other: Party) -> bytes:
        """Agree on 32 bytes that only the two parties can compute."""
        public = X25519PublicKey.from_public_bytes(bytes.fromhex(other.agreement))
        try:
            return self._agreement.exchange(public)
        except ValueError as error:
            raise DataError(
                f"party {other.name}: its agreement key gives no secret ({error}), expected a key "
                "made by `shortlist federate key`. Fix: it makes a new key, and a new plan names it"
            ) from error

    @cached_property
    def _signing(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(self.signing))

    @cached_property
    def _agreement(self) -> X25519PrivateKey:
        return X25519PrivateKey.from_private_bytes(bytes.fromhex(self.agreement))


def make_key(path: Path, name: str) -> Key:
    """Make a party's key: a file for its owner alone, and beside it one for the others.

    Raises
    ------
    DataError
        The file is there already, or the name is none.
    """
    if not _NAME.fullmatch(name):
        raise DataError(
            f"name: got {name!r}, expected a party's name of small letters, digits and dashes, at "
            "most 40. Fix: such as north-shop"
        )
    key = Key(
        name,
        Ed25519PrivateKey.generate().private_bytes_raw().hex(),
        X25519PrivateKey.generate().private_bytes_raw().hex(),
    )
    if path.exists():
        raise _taken(path)
    # The public file first: whoever is killed in between makes both anew.
    with replacing(public_of(path)) as file:
        file.write(json.dumps(asdict(key.party)).encode() + b"\n")
    with folder_for(path) as folder:
        whole = folder / "key"
        descriptor = os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as text:
            json.dump(asdict(key), text)
            text.flush()
            os.fsync(text.fileno())
        try:
            path.hardlink_to(whole)
        except FileExistsError as error:
            raise _taken(path) from error
    return key


def _taken(path: Path) -> DataError:
    return DataError(
        f"{path}: is there already, expected a new file: who loses a key is no party of the plan "
        "any more. Fix: another name"
    )


def public_of(path: Path) -> Path:
    """Return the name of the public file beside a key."""
    return path.with_name(path.name + PUBLIC)


def load_key(path: Path) -> Key:
    """Read a key that `make_key` wrote."""
    if not path.is_file():
        raise DataError(f"{path}: no such file, expected a key of `shortlist federate key`")
    if path.stat().st_mode & 0o077:
        raise DataError(
            f"{path}: others on this machine may read it, expected a key for its owner alone. Fix: "
            f"chmod 600 {path}"
        )
    record = _read_json(path)
    Party.read(record, str(path))  # the same form
    return Key(record["name"], record["signing"], record["agreement"])


def load_party(path: Path) -> Party:
    """Read the public file of a party."""
    if not path.is_file():
        raise DataError(
            f"{path}: no such file, expected the public key of a party, NAME.key{PUBLIC}"
        )
    return Party.read(_read_json(path), str(path))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error}), expected a key file") from error
