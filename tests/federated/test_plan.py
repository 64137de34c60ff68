"""Plans, keys, what a party remembers, ids and settings."""

from __future__ import annotations

import json
from dataclasses import replace

import polars as pl
import pytest
from parties import HEAD, KEYS, key_of, plan_of

from shortlist.errors import DataError
from shortlist.training.config.settings import load_config
from shortlist.training.federated.answers import Answers
from shortlist.training.federated.exchange import FolderExchange
from shortlist.training.federated.ids import unified
from shortlist.training.federated.keys import load_key, load_party, make_key, public_of
from shortlist.training.federated.plan import latest_plan
from shortlist.training.federated.settings import federated_config, shared_settings


@pytest.fixture
def exchange(tmp_path):
    return FolderExchange(tmp_path / "exchange", is_new=True)


def test_a_key_is_its_owners_alone_and_signs(tmp_path):
    path = tmp_path / "north.key"
    key = make_key(path, "north")
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_key(path) == key
    party = load_party(public_of(path))
    assert party == key.party
    assert party.verify(b"text", key.sign(b"text"))
    assert not party.verify(b"other", key.sign(b"text"))
    assert key.signing not in public_of(path).read_text() + repr(key)
    assert key.secret_with(HEAD.party) == HEAD.secret_with(party)
    with pytest.raises(DataError, match=r"north\.key: is there already"):
        make_key(path, "north")
    path.chmod(0o644)
    with pytest.raises(DataError, match=r"others on this machine may read it.*chmod 600"):
        load_key(path)


@pytest.mark.parametrize("name", ["", "North", "a b", "../x", "-a", "a" * 41])
def test_a_name_is_plain(tmp_path, name):
    with pytest.raises(DataError, match=r"name: got .*Fix: such as north-shop"):
        make_key(tmp_path / "k", name)


def test_files_that_are_no_keys_are_refused(tmp_path):
    for text in ("", "[]", "{}", json.dumps({"name": "a", "signing": "x", "agreement": "y"})):
        (tmp_path / "a.pub").write_text(text)
        with pytest.raises(DataError, match=r"a\.pub: .*expected"):
            load_party(tmp_path / "a.pub")
    with pytest.raises(DataError, match="no such file"):
        load_key(tmp_path / "none")


def test_a_plan_is_what_was_signed(exchange):
    plan = plan_of()
    plan.write(exchange, HEAD)
    assert latest_plan(exchange) == plan
    assert latest_plan(exchange, HEAD.party).sha256 == plan.sha256
    with pytest.raises(DataError, match="signed by another key than that of head"):
        latest_plan(exchange, replace(HEAD.party, signing=key_of("other").party.signing))
    path = exchange.folder / plan.name
    path.write_text(path.read_text().replace('"own"', '"gtin"'))
    with pytest.raises(
        DataError, match=r"plan-0001\.json: the signature of head does not fit.*Fix"
    ):
        latest_plan(exchange)


def test_an_exchange_without_a_plan_or_with_a_broken_one(exchange):
    with pytest.raises(DataError, match="got no plan"):
        latest_plan(exchange)
    (exchange.folder / "plan-0001.json").write_text("{")
    with pytest.raises(DataError, match=r"plan-0001\.json: damaged"):
        latest_plan(exchange)


def test_a_repeated_round_is_the_next_plan(exchange):
    plan = plan_of()
    plan.write(exchange, HEAD)
    again = plan.next_without(frozenset({"east"}))
    again.write(exchange, HEAD)
    assert latest_plan(exchange) == again
    assert [party.name for party in again.parties] == ["north", "south", "west"]
    assert again.sha256 != plan.sha256
    with pytest.raises(DataError, match="got 1, expected at least 2"):
        plan.next_without(frozenset({"east", "north", "south"}))
    with pytest.raises(DataError, match="got 'nobody', which is not in plan 1"):
        plan.next_without(frozenset({"nobody"}))


def test_each_party_is_there_once_with_a_key_of_its_own():
    twin = replace(key_of("twin").party, agreement=KEYS[0].party.agreement)
    plan = replace(plan_of(), parties=(KEYS[0].party, twin))
    with pytest.raises(DataError, match=r"got agreement .* twice"):
        plan.check()


def test_a_party_remembers_its_answers_and_whom_it_trusts(tmp_path):
    answers, plan = Answers(tmp_path / "answers"), plan_of()
    assert answers.trusted() is None
    answers.trust(HEAD.party)
    assert Answers(tmp_path / "answers").trusted() == HEAD.party
    assert answers.kept(plan, "sums") is None
    answers.keep(plan, "sums", b"bytes")
    assert answers.kept(plan, "sums") == b"bytes"
    assert answers.kept(plan, "gate") is None
    assert answers.kept(plan_of(number=2), "sums") is None
    assert (tmp_path / "answers").stat().st_mode & 0o777 == 0o700


def test_a_plan_with_other_parties_needs_a_yes(tmp_path):
    answers, plan = Answers(tmp_path / "answers"), plan_of()
    answers.check_parties(plan, accepts=False)
    answers.keep(plan, "sums", b"bytes")
    answers.check_parties(plan_of(number=2), accepts=False)
    fewer = plan.next_without(frozenset({"west"}))
    with pytest.raises(DataError, match=r"gone: west; new: none.*subtract.*--accept-parties"):
        answers.check_parties(fewer, accepts=False)
    answers.check_parties(fewer, accepts=True)


def test_the_parties_of_the_last_answer_were_agreed_on_but_not_other_keys(tmp_path):
    answers, plan = Answers(tmp_path / "answers"), plan_of()
    answers.keep(plan, "sums", b"bytes")
    fewer = plan.next_without(frozenset({"west"}))
    answers.keep(fewer, "sums", b"bytes")
    answers.check_parties(replace(fewer, number=3), accepts=False)
    with pytest.raises(DataError, match=r"gone: none; new: west"):
        answers.check_parties(replace(plan, number=3), accepts=False)
    twin = replace(key_of("other").party, name="south")
    swapped = replace(fewer, number=3, parties=(*fewer.parties[:2], twin))
    with pytest.raises(DataError, match=r"gone: south; new: south"):
        answers.check_parties(swapped, accepts=False)


def test_a_plan_that_is_being_copied_is_not_read(exchange):
    plan = plan_of()
    plan.write(exchange, HEAD)
    (exchange.folder / "plan-0002.json.part").write_bytes(b"{")
    assert latest_plan(exchange) == plan


def test_one_who_is_killed_while_a_key_is_made_makes_it_again(tmp_path, monkeypatch):
    path = tmp_path / "north.key"
    with monkeypatch.context() as patch:
        patch.setattr("shortlist.training.federated.keys.json.dump", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            make_key(path, "north")
    assert not path.exists()
    key = make_key(path, "north")
    assert load_party(public_of(path)) == key.party
    assert sorted(p.name for p in tmp_path.iterdir()) == ["north.key", "north.key.pub"]


@pytest.mark.parametrize(
    ("scheme", "written", "expected"),
    [
        ("own", ["a", "B 1"], ["a", "B 1"]),
        ("gtin", ["4006381333931", "036000291452", "96385074"],
         ["04006381333931", "00036000291452", "00000096385074"]),
        ("isbn", ["0-306-40615-2", "978-0-306-40615-7", "080442957X"],
         ["9780306406157", "9780306406157", "9780804429573"]),
    ],
)  # fmt: skip
def test_ids_of_a_scheme_have_one_form(scheme, written, expected):
    assert unified(pl.Series("item_id", written), scheme, "items").to_list() == expected


def test_numbers_that_lost_their_zeros_are_gtins():
    ids = unified(pl.Series("item_id", [36000291452], dtype=pl.Int64), "gtin", "items")
    assert ids.to_list() == ["00036000291452"]


@pytest.mark.parametrize(
    ("scheme", "wrong"),
    [("gtin", "4006381333932"), ("gtin", "sku-1"), ("gtin", ""), ("isbn", "0306406153"),
     ("isbn", "4006381333931"), ("isbn", "X"), ("isbn", "")],
)  # fmt: skip
def test_ids_of_another_scheme_are_named(scheme, wrong):
    with pytest.raises(DataError, match=r"party north: got item_id .* of 1 ids are none.*--column"):
        unified(pl.Series("item_id", [wrong]), scheme, "party north")


def test_settings_of_a_plan_are_replaced_or_refused():
    config, notes = federated_config(load_config(), ())
    assert config.model.encoder == "cooccurrence"
    assert config.split.protocol == "leave-one-out"
    assert not config.export.store_users
    assert any(note.startswith("federated: model.encoder is 'cooccurrence'") for note in notes)
    assert 'path = ""' in shared_settings(config)
    for name, value in (
        ("linear.trend", 1.0), ("events.half_life_days", 3.0), ("scorer.enabled", True),
        ("data.users", "users.csv"), ("model.encoder", "ials"), ("export.store_users", True),
    ):  # fmt: skip
        with pytest.raises(DataError, match=rf"{name}: got .* in a plan of several parties"):
            federated_config(load_config(overrides={name: value}), {name})
