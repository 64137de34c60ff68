"""An exchange over gRPC with mutual TLS: the coordinator serves its folder, parties reach it.

Messages are plain bytes. A party may write its own messages alone: the common name of its
certificate is its name.
"""

from __future__ import annotations

import datetime
import json
import re
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import grpc
from cryptography import x509

from shortlist.errors import DataError
from shortlist.training.federated.exchange import Exchange, UnreachableError

PREFIX = "grpc://"
_SERVICE = "shortlist.Exchange"
_AT_ONCE = 1 << 20  # bytes of a chunk
_MOST = 4 << 30  # bytes of a content
_NAME = re.compile(r"[a-z0-9][a-zA-Z0-9.-]{0,99}")
_ANSWER = re.compile(r"\d{4}\.(?:sums|gate)\.([a-z0-9-]+)")
_SECONDS = 20.0  # until a server that is not there is given up
_REFUSED = grpc.StatusCode.FAILED_PRECONDITION


@dataclass(frozen=True)
class Certificate:
    """Who one is on the wire.

    Attributes
    ----------
    chain, key : bytes
        Own certificate and its key, PEM.
    roots : bytes
        Certificate of the authority that signed all of them, PEM.
    """

    chain: bytes
    key: bytes
    roots: bytes

    @classmethod
    def load(cls, chain: Path, key: Path, roots: Path) -> Certificate:
        """Read the files, and refuse a certificate that is not valid today.

        Raises
        ------
        DataError
            A file is missing or no PEM, or a certificate has expired.
        """
        for path in (chain, roots):
            _check_valid(path)
        return cls(chain.read_bytes(), _read(key), roots.read_bytes())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}), expected a PEM file"
        ) from error


def _check_valid(path: Path) -> None:
    try:
        certificate = x509.load_pem_x509_certificate(_read(path))
    except ValueError as error:
        raise DataError(f"{path}: no certificate in PEM form ({error})") from error
    now = datetime.datetime.now(datetime.UTC)
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not first <= now <= last:
        raise DataError(
            f"{path}: the certificate of {certificate.subject.rfc4514_string()} is valid from "
            f"{first:%F %R} to {last:%F %R} UTC, expected one that is valid now ({now:%F %R}). "
            "Fix: a new certificate; the exchange keeps what it has"
        )


@contextmanager
def serving(exchange: Exchange, certificate: Certificate, address: str) -> Iterator[int]:
    """Serve an exchange for the time of a with block.

    Parameters
    ----------
    exchange : Exchange
    certificate : Certificate
        Of the server; its roots say whose clients are let in.
    address : str
        HOST:PORT; port 0 for any.

    Yields
    ------
    int
        The port.
    """
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((_handlers(exchange),))
    credentials = grpc.ssl_server_credentials(
        [(certificate.key, certificate.chain)], certificate.roots, require_client_auth=True
    )
    try:
        port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise DataError(
            f"listen: got {address}, expected HOST:PORT that is free here ({error})"
        ) from error
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


def _handlers(exchange: Exchange) -> Any:
    one_writer = threading.Lock()  # a content is in memory while it is written

    def names(_: bytes, __: Any) -> bytes:
        return json.dumps(exchange.names()).encode()

    def read(request: bytes, context: Any) -> Iterator[bytes]:
        name = request.decode("ascii", "replace")
        if not _NAME.fullmatch(name) or name not in exchange.names():
            context.abort(_REFUSED, f"exchange: it has no {name!r:.120}, expected it there")
        with exchange.open(name) as file:
            while chunk := file.read(_AT_ONCE):
                yield chunk

    def write(chunks: Iterator[bytes], context: Any) -> bytes:
        name = next(chunks, b"").decode("ascii", "replace")
        party = next(iter(context.auth_context().get("x509_common_name", ())), b"").decode()
        found = _ANSWER.fullmatch(name)
        if found is None or found[1] != party:
            context.abort(
                _REFUSED,
                f"exchange: {party} may not write {name!r:.120}, expected its own answer: the "
                "common name of the certificate must be the party's name",
            )
        with one_writer:
            content = bytearray()
            for chunk in chunks:
                content += chunk
                if len(content) > _MOST:
                    context.abort(_REFUSED, f"exchange: {name} has more than {_MOST:,} bytes")
            try:
                exchange.write(name, bytes(content))
            except DataError as error:
                context.abort(_REFUSED, str(error))
        return b""

    return grpc.method_handlers_generic_handler(
        _SERVICE,
        {
            "Names": grpc.unary_unary_rpc_method_handler(names),
            "Read": grpc.unary_stream_rpc_method_handler(read),
            "Write": grpc.stream_unary_rpc_method_handler(write),
        },
    )


class WireExchange:
    """An exchange that another process serves.

    Parameters
    ----------
    address : str
        HOST:PORT, of which HOST is in the server's certificate.
    certificate : Certificate
        Of the party.
    """

    def __init__(self, address: str, certificate: Certificate) -> None:
        credentials = grpc.ssl_channel_credentials(
            certificate.roots, certificate.key, certificate.chain
        )
        self.address = address
        self._channel = grpc.secure_channel(address, credentials)
        self._names = self._channel.unary_unary(f"/{_SERVICE}/Names")
        self._read = self._channel.unary_stream(f"/{_SERVICE}/Read")
        self._write = self._channel.stream_unary(f"/{_SERVICE}/Write")

    def close(self) -> None:
        """Hang up."""
        self._channel.close()

    def names(self) -> list[str]:
        """See `Exchange.names`."""
        with self._named():
            names: list[str] = json.loads(self._names(b"", timeout=_SECONDS))
        return names

    def open(self, name: str) -> BinaryIO:
        """See `Exchange.open`: a copy, once it is here as a whole."""
        file = tempfile.TemporaryFile()  # noqa: SIM115  given to the caller
        try:
            with self._named():
                for chunk in self._read(name.encode()):
                    file.write(chunk)
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file

    def write(self, name: str, content: bytes) -> None:
        """See `Exchange.write`."""
        parts = (content[i : i + _AT_ONCE] for i in range(0, len(content), _AT_ONCE))

        def chunks() -> Iterator[bytes]:
            yield name.encode()
            yield from parts

        with self._named():
            self._write(chunks())

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Make the errors of a call ours."""
        try:
            yield
        except grpc.RpcError as error:
            if error.code() is _REFUSED:
                raise DataError(error.details()) from error
            raise UnreachableError(
                f"exchange: {PREFIX}{self.address} cannot be reached ({error.details()}), expected "
                "`shortlist federate collect --listen` there, and certificates of one authority "
                "that are valid today on both sides. Fix: try again, nothing is lost"
            ) from error
