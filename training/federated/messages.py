"""Messages of parties: a signed header, and masked numbers behind it.

``MAGIC``, length of the header (uint32, little-endian), header as JSON, signature of the header,
then the tensors one after another as words of the plan's bits, little-endian. The header has the
hash of each.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt

from shortlist.errors import DataError
from shortlist.training.federated.keys import Key, Party
from shortlist.training.federated.plan import Plan
from shortlist.training.federated.signing import canonical, sha256

MAGIC = b"shortlist message 1\n"
_LENGTH = struct.Struct("<I")
_SIGNATURE = 64
_MOST = 1 << 20  # bytes of a header
_AT_ONCE = 1 << 23  # bytes

Shapes = Mapping[str, tuple[int, ...]]
Words = npt.NDArray[np.unsignedinteger]


def message_name(plan: Plan, round_name: str, party: str) -> str:
    """Return the name of a party's message in an exchange."""
    return f"{plan.number:04}.{round_name}.{party}"


def write_message(
    plan: Plan,
    round_name: str,
    key: Key,
    *,
    tensors: Mapping[str, Words] | None = None,
    value: Mapping[str, Any] | None = None,
) -> bytes:
    """Write a party's answer in a round: masked tensors, or a judgement."""
    parts = [
        (name, array.shape, array.astype(array.dtype.newbyteorder("<")).tobytes())
        for name, array in (tensors or {}).items()
    ]
    header = {
        "plan": plan.sha256,
        "number": plan.number,
        "round": round_name,
        "party": key.name,
        "value": None if value is None else dict(value),
        "tensors": [
            {"name": name, "shape": list(shape), "sha256": sha256(data)}
            for name, shape, data in parts
        ],
    }
    told = canonical(header)
    start = [MAGIC, _LENGTH.pack(len(told)), told, key.sign(told)]
    return b"".join([*start, *(data for _, _, data in parts)])


@dataclass(frozen=True)
class Message:
    """A message that has been checked up to its tensors.

    Attributes
    ----------
    party : str
    value : dict or None
        A judgement: ``change``, ``is_worse``.
    tensors : list of dict
        ``name``, ``shape``, ``sha256`` of each.
    where : str
        Name for messages of errors.
    """

    party: str
    value: Any
    tensors: list[dict[str, Any]]
    where: str

    @classmethod
    def read(cls, file: BinaryIO, plan: Plan, round_name: str, party: Party) -> Self:
        """Read and check a header.

        Raises
        ------
        DataError
            Damaged or cut short; not signed by the party; of another plan, round or party.
        """
        where = f"party {party.name}, round {round_name}"
        again = f"Fix: {party.name} runs `shortlist federate join` again, or sends the file again"
        try:
            if _take(file, len(MAGIC)) != MAGIC:
                raise ValueError("it does not begin as a message")
            (length,) = _LENGTH.unpack(_take(file, _LENGTH.size))
            if length > _MOST:
                raise ValueError(f"its header has {length:,} bytes")
            told = _take(file, length)
            signature = _take(file, _SIGNATURE)
            header = json.loads(told)
            found = (header["plan"], header["round"], header["party"])
            message = cls(header["party"], header["value"], header["tensors"], where)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{where}: the message is damaged ({error}). {again}") from error
        if not party.verify(told, signature):
            raise DataError(
                f"{where}: the signature does not fit, expected a message signed by {party.name}. "
                f"{again}"
            )
        if found != (plan.sha256, round_name, party.name):
            raise DataError(
                f"{where}: got a message of {header['party']} for round {header['round']} of plan "
                f"{header['number']}, expected one for round {round_name} of plan {plan.number}: "
                f"it was taken from elsewhere. {again}"
            )
        return message

    def add_tensors(self, file: BinaryIO, total: Mapping[str, Words], shapes: Shapes) -> None:
        """Add the tensors that follow in the file to a total, modulo its words.

        Raises
        ------
        DataError
            Others than the plan asks for, or cut short or changed: the total is worth nothing then.
        """
        found = {entry["name"]: tuple(entry["shape"]) for entry in self.tensors}
        if found != dict(shapes):
            raise DataError(
                f"{self.where}: got the tensors {found}, expected {dict(shapes)}. Fix: all parties "
                "use the same release of shortlist; then the round is repeated"
            )
        for entry in self.tensors:
            digest, whole = hashlib.sha256(), total[entry["name"]].reshape(-1)
            n_at_once = _AT_ONCE // whole.itemsize
            for start in range(0, len(whole), n_at_once):
                part = whole[start : start + n_at_once]
                try:
                    data = _take(file, part.nbytes)
                except ValueError as error:
                    raise DataError(
                        f"{self.where}: the message is cut short in {entry['name']}. Fix: wait "
                        f"until it is copied, or {self.party} sends it again"
                    ) from error
                digest.update(data)
                part += np.frombuffer(data, part.dtype.newbyteorder("<"))
            if digest.hexdigest() != entry["sha256"]:
                raise DataError(
                    f"{self.where}: {entry['name']} is not what was signed. Fix: {self.party} "
                    "sends the file again"
                )


def _take(file: BinaryIO, n: int) -> bytes:
    data = file.read(n)
    if len(data) < n:
        raise ValueError(f"{n - len(data):,} bytes are missing")
    return data
