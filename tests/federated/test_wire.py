"""The exchange over gRPC with mutual TLS: the same federation, and who is let in."""

from __future__ import annotations

import datetime
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from parties import World, items_table, key_of, parts

from shortlist.bundle import Bundle
from shortlist.cli import main
from shortlist.errors import DataError
from shortlist.training.federated.exchange import FolderExchange, UnreachableError, read_all
from shortlist.training.federated.keys import make_key
from shortlist.training.federated.wire import Certificate, WireExchange, serving

DAY = datetime.timedelta(days=1)
N_KILLS = 50


def name_of(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """Signs certificates into a folder."""

    def __init__(self, folder):
        self.folder, self.key = folder, ec.generate_private_key(ec.SECP256R1())
        folder.mkdir(exist_ok=True)
        self.write("ca", name_of("authority"), self.key, True, 1)

    def write(self, name, subject, key, is_authority, days):
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(name_of("authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 10 * DAY)
            .not_valid_after(now + days * DAY)
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        )
        signed = builder.sign(self.key, hashes.SHA256())
        (self.folder / f"{name}.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        secret = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        (self.folder / f"{name}.secret").write_bytes(secret)

    def sign(self, name, days=1):
        key = ec.generate_private_key(ec.SECP256R1())
        self.write(name, name_of(name), key, False, days)
        return self.files(name)

    def files(self, name):
        return [self.folder / f for f in (f"{name}.pem", f"{name}.secret", "ca.pem")]


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    made = Authority(tmp_path_factory.mktemp("authority"))
    for name in ("head", "north", "south"):
        made.sign(name)
    return made


@pytest.fixture
def served(tmp_path, authority):
    folder = FolderExchange(tmp_path / "exchange", is_new=True)
    with serving(folder, Certificate.load(*authority.files("head")), "localhost:0") as port:
        yield folder, f"localhost:{port}"


def reached(authority, address, name="north"):
    return WireExchange(address, Certificate.load(*authority.files(name)))


def test_names_contents_and_writes_go_over_the_wire(served, authority):
    folder, address = served
    folder.write("plan-0001.json", b"plan")
    north = reached(authority, address)
    assert north.names() == ["plan-0001.json"]
    assert read_all(north, "plan-0001.json") == b"plan"
    large = bytes(range(256)) * 12_000
    north.write("0001.sums.north", large)
    north.write("0001.sums.north", large)
    assert read_all(folder, "0001.sums.north") == large
    assert read_all(north, "0001.sums.north") == large
    with pytest.raises(DataError, match=r"0001\.sums\.north holds another content already"):
        north.write("0001.sums.north", b"other")
    with pytest.raises(DataError, match="exchange: it has no 'plan-2', expected it there"):
        north.open("plan-2")
    north.close()


@pytest.mark.parametrize(
    "name",
    ["0001.sums.south", "plan-0002.json", "../x", "0001.result.json", "", "0001.sums.north2"],
)
def test_a_party_writes_its_own_answers_alone(served, authority, name):
    folder, address = served
    north = reached(authority, address)
    with pytest.raises(DataError, match=r"exchange: north may not write .* the party's name"):
        north.write(name, b"x")
    for other in ("../exchange/x", "/etc/passwd", "a\0b"):
        with pytest.raises(DataError, match="exchange: it has no"):
            north.open(other)
    assert folder.names() == []
    north.close()


def test_who_has_no_certificate_of_the_authority_is_not_let_in(served, authority, tmp_path):
    other = Authority(tmp_path / "other")
    files = other.sign("north")
    stranger = Certificate.load(files[0], files[1], authority.folder / "ca.pem")
    for certificate in (stranger, Certificate.load(*files)):
        wire = WireExchange(served[1], certificate)
        with pytest.raises(UnreachableError, match=r"cannot be reached .*Fix: try again"):
            wire.names()
        wire.close()


def test_an_expired_certificate_is_named_with_its_day(authority):
    files = authority.sign("late", days=-1)
    with pytest.raises(
        DataError, match=r"late\.pem: the certificate of CN=late is valid from .*Fix"
    ):
        Certificate.load(*files)
    with pytest.raises(DataError, match=r"late\.secret: no certificate in PEM form"):
        Certificate.load(files[1], files[1], files[2])
    with pytest.raises(DataError, match=r"none\.pem: cannot be read"):
        Certificate.load(authority.folder / "none.pem", files[1], files[2])


def test_a_server_that_is_gone_may_come_back(tmp_path, authority):
    folder = FolderExchange(tmp_path / "exchange", is_new=True)
    head = Certificate.load(*authority.files("head"))
    with serving(folder, head, "localhost:0") as port:
        north = reached(authority, f"localhost:{port}")
        north.write("0001.gate.north", b"one")
        with pytest.raises(DataError, match="listen: got"), serving(folder, head, "nowhere:x"):
            pass
    with pytest.raises(UnreachableError):
        north.names()
    north.close()
    with serving(folder, head, f"localhost:{port}"):
        again = reached(authority, f"localhost:{port}")
        assert again.names() == ["0001.gate.north"]
        again.close()


def test_the_command_asks_for_all_it_needs(tmp_path, monkeypatch, capsys, authority):
    monkeypatch.chdir(tmp_path)
    assert main(["federate", "key", "north.key", "--name", "north"]) == 0
    assert main(["federate", "join", "grpc://localhost:1", "--key", "north.key"]) == 1
    assert "--tls-cert, --tls-key, --tls-ca: got not all of them" in capsys.readouterr().err
    (tmp_path / "e").mkdir()
    collect = ["federate", "collect", "e", "--key", "north.key", "--out", "a.shortlist"]
    assert main([*collect, "--listen", "localhost:0"]) == 1
    assert "--listen: got no --wait" in capsys.readouterr().err
    plan = ["federate", "plan", "grpc://localhost:1", "--key", "north.key", "--items", "i.csv"]
    assert main([*plan, "--party", "north.key.pub"]) == 1
    assert "expected a folder of the coordinator" in capsys.readouterr().err


def test_a_federation_over_the_wire_ends_in_a_bundle(tmp_path, authority):
    keys = [key_of(name) for name in ("north", "south")]
    settings = {"model.encoder": "popularity", "update.min_users": 1000}  # nobody judges
    world = World(tmp_path, keys, (0, 90, 220), **settings)
    head = Certificate.load(*authority.files("head"))
    with serving(world.exchange, head, "localhost:0") as port:
        wires = {key.name: reached(authority, f"localhost:{port}", key.name) for key in keys}
        for expected in ("sums", "gate"):
            for key in keys:
                assert world.join(key, exchange=wires[key.name]).round == expected
            done = world.collect()
        assert done.is_published
        out = tmp_path / "north.shortlist"
        assert world.join(keys[0], exchange=wires["north"], out=out).bundle == out
        for wire in wires.values():
            wire.close()
    for path in done.bundle.iterdir():
        assert path.read_bytes() == (out / path.name).read_bytes()


PROGRAM = "import sys; from shortlist.cli import main; sys.exit(main(sys.argv[1:]))"


def started(folder, log, *words):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "federate", *words], cwd=folder, stdout=log, stderr=log
    )


def finish_under_kills(tmp_path, authority, random, n_kills):
    """Run one federation to its end, killing whoever is drawn; return how many were killed."""
    items_table().write_csv(tmp_path / "items.csv")
    names = ("north", "south")
    for name, events in zip(names, parts((0, 90, 220)), strict=True):
        events.write_csv(tmp_path / f"{name}.csv")
    for name in ("head", *names):
        make_key(tmp_path / f"{name}.key", name)
    public = [str(tmp_path / f"{name}.key.pub") for name in names]
    plan = ["federate", "plan", str(tmp_path / "e"), "--key", str(tmp_path / "head.key")]
    items = str(tmp_path / "items.csv")
    assert main([*plan, "--party", *public, "--items", items, "--preset", "cooccurrence"]) == 0
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"

    def words(name):
        tls = dict(zip(("cert", "key", "ca"), map(str, authority.files(name)), strict=True))
        flags = [f"--tls-{what}={path}" for what, path in tls.items()]
        flags += ["--key", f"{name}.key", "--wait", "2h"]
        if name == "head":
            return ["collect", "e", "--listen", address, "--out", "out.shortlist", *flags]
        own = ["--data", f"{name}.csv", "--out", f"{name}.shortlist", "--quiet"]
        return ["join", f"grpc://{address}", *own, *flags]

    n_killed, end = 0, time.monotonic() + 3_600
    with open(tmp_path / "log", "wb") as log:
        running = {name: started(tmp_path, log, *words(name)) for name in ("head", *names)}
        try:
            while not all((tmp_path / f"{name}.shortlist").exists() for name in names):
                assert time.monotonic() < end, (tmp_path / "log").read_text()
                time.sleep(random.uniform(0.0, 12.0) if n_killed < n_kills else 1.0)
                chosen = running[str(random.choice(("head", *names)))]
                if n_killed < n_kills and chosen.poll() is None:
                    chosen.kill()
                    n_killed += 1
                for name, process in running.items():
                    if process.poll() is not None and process.returncode != 0:
                        running[name] = started(tmp_path, log, *words(name))
                for path in tmp_path.glob("*.shortlist"):
                    Bundle.open(path).close()  # whole at every moment
        finally:
            for process in running.values():
                process.kill()
                process.wait()
    one, other = (tmp_path / f"{name}.shortlist" for name in names)
    for path in one.iterdir():
        assert path.read_bytes() == (other / path.name).read_bytes()
    return n_killed


@pytest.mark.slow
def test_three_processes_killed_at_random_moments_end_in_a_whole_bundle(tmp_path, authority):
    """Kill −9 whoever is drawn, 50 times, and start it again: it ends as if nothing had been."""
    random, n_killed = np.random.default_rng(1), 0
    while n_killed < N_KILLS:  # as many federations as that takes
        folder = tmp_path / f"after-{n_killed}"
        folder.mkdir()
        n_killed += finish_under_kills(folder, authority, random, N_KILLS - n_killed)
