"""The jobs of a federation: plan, join, collect. Each goes on from what lies in the exchange.

A party's events are seen by `join` alone, on the party's machine. What leaves it is one masked
message of sums, and one number that judges the bundle.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from shortlist._quiet import quiet_start
from shortlist._temporary import folder_for
from shortlist.bundle import BundleWriter, check_target
from shortlist.bundle.zipped import unpack
from shortlist.errors import DataError
from shortlist.training.config.environment import require_tensorflow
from shortlist.training.config.settings import (
    apply_overrides,
    from_toml,
    given_settings,
    load_config,
)
from shortlist.training.data.reading import Reading
from shortlist.training.data.tables import log
from shortlist.training.federated.answers import Answers
from shortlist.training.federated.exchange import Exchange, read_all
from shortlist.training.federated.ids import SCHEMES, unified
from shortlist.training.federated.keys import Key, Party
from shortlist.training.federated.messages import Message, message_name, write_message
from shortlist.training.federated.plan import GATE, SUMS, Items, Plan, latest_plan
from shortlist.training.federated.settings import federated_config, shared_settings
from shortlist.training.federated.signing import check_signed, read_record, sha256, sign_record
from shortlist.training.federated.sums import masked_message, missing_parties, total_of
from shortlist.training.privacy.settings import is_private

if TYPE_CHECKING:
    from shortlist.training.config.sections import Config
    from shortlist.training.data.tables import TableSource


@dataclass(frozen=True)
class Standing:
    """Where a federation stands.

    Attributes
    ----------
    plan : int
        Number of the plan.
    round : str
        "sums", "gate", or "done".
    waiting_for : tuple of str
        Whose turn it is: parties, or the coordinator.
    changes : dict of str to float or None
        By party: how much better the new bundle's NDCG@10 is on its held-out users, as a part of
        what it had; None where it has too few users to say.
    is_published : bool or None
        None until all have judged.
    bundle : Path or None
        Where the bundle was written.
    """

    plan: int
    round: str
    waiting_for: tuple[str, ...] = ()
    changes: Mapping[str, float | None] = field(default_factory=dict)
    is_published: bool | None = None
    bundle: Path | None = None

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON."""
        return {
            **vars(self),
            "waiting_for": list(self.waiting_for),
            "changes": dict(self.changes),
            "bundle": None if self.bundle is None else str(self.bundle),
        }

    def __str__(self) -> str:
        """Say it in a few lines."""
        lines = [f"plan {self.plan}, round {self.round}"]
        if self.waiting_for:
            lines[0] += f": waiting for {', '.join(self.waiting_for)}"
        lines += [f"  {name:20} {_percent(change)}" for name, change in self.changes.items()]
        if self.is_published is not None:
            lines.append("published" if self.is_published else "not published: a party is worse")
        if self.bundle is not None:
            lines.append(f"bundle: {self.bundle}")
        return "\n".join(lines)


def _percent(change: float | None) -> str:
    return "cannot judge: too few users" if change is None else f"{change:+.1%} NDCG@10"


def plan_federation(
    exchange: Exchange,
    key: Key,
    parties: Sequence[Party],
    items: TableSource,
    *,
    preset: str | None = None,
    config_path: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    ids: str = "own",
) -> Plan:
    """Write the first plan and its catalogue into an empty exchange.

    Parameters
    ----------
    exchange : Exchange
    key : Key
        Of the coordinator.
    parties : sequence of Party
        At least two.
    items : path or frame
        The catalogue: public, and the same for all.
    preset, config_path, overrides
        As for `load_config`; ``[data]`` says how the item table is read.
    ids : str
        Scheme of the item ids, one of `ids.SCHEMES`.

    Raises
    ------
    DataError
        A setting, a party or the table is not as expected; the exchange holds a plan.
    """
    if ids not in SCHEMES:
        raise DataError(f"ids: got {ids!r}, expected one of {', '.join(SCHEMES)}")
    if any(name.startswith("plan-") for name in exchange.names()):
        raise DataError(
            "exchange: got one with a plan, expected an empty one. Fix: another folder; `shortlist "
            "federate collect --repeat` repeats a round"
        )
    config = load_config(preset, config_path, overrides)
    config, notes = federated_config(config, given_settings(preset, config_path, overrides))
    for note in notes:
        log.info("%s", note)
    table = Reading.of(config.data).tables(items, None).items
    assert table is not None
    table = table.with_columns(unified(table["item_id"], ids, "items"))
    twice = table["item_id"].filter(table["item_id"].is_duplicated())
    if twice.len():
        raise DataError(f"items: got item_id {twice[0]!r} twice, expected each item once")
    _check_affordable(config, table.height)
    tensors, releases = _asked(config, table.height)
    written = _write_items(table)
    columns = {name: str(kind) for name, kind in table.schema.items()}
    digest = sha256(written)
    catalogue = Items(f"items-{digest[:12]}.arrow", digest, table.height, columns)
    ordered = tuple(sorted(parties, key=lambda party: party.name))
    config = apply_overrides(config, {"privacy.parent": ""})  # a path of the coordinator
    plan = Plan(1, key.party, ordered, shared_settings(config), catalogue, ids, tensors, releases)
    plan.check()
    exchange.write(catalogue.name, written)
    plan.write(exchange, key)
    return plan


def join_federation(
    exchange: Exchange,
    key: Key,
    answers: Answers,
    *,
    overrides: Mapping[str, object] | None = None,
    events: TableSource | None = None,
    present: Path | None = None,
    out: Path | None = None,
    coordinator: Party | None = None,
    accepts_parties: bool = False,
    progress: bool = True,
) -> Standing:
    """Do what is a party's turn: answer with sums, judge the bundle, or take it.

    Parameters
    ----------
    exchange : Exchange
    key : Key
        Of the party.
    answers : Answers
        What the party remembers.
    overrides : mapping, optional
        Settings of ``[data]``: where the party's events are and how they are read.
    events : path or frame, optional
        In place of ``data.path``.
    present : Path, optional
        The bundle that serves now, which the new one is compared with; without it a model of the
        party's own events alone.
    out : Path, optional
        Where the bundle is written once it is published.
    coordinator : Party, optional
        Whom to trust from now on; by default whom the party has worked with, or the first plan's.
    accepts_parties : bool
        Answer although the parties are not those of an earlier plan.
    progress : bool
    """
    trusted = coordinator or answers.trusted()
    plan = latest_plan(exchange, trusted)
    if plan.party(key.name) != key.party:
        raise DataError(
            f"party {key.name}: plan {plan.number} has another key of this name, expected that of "
            "the key file. Fix: use the key that the coordinator got, or ask for a new plan"
        )
    if out is not None:
        check_target(out)
    answers.trust(plan.coordinator)
    there = exchange.names()
    if _result(plan) in there:
        return _take(exchange, plan, out)
    config = _party_config(plan, overrides or {})
    if message_name(plan, SUMS, key.name) not in there:
        answer = answers.kept(plan, SUMS)
        if answer is None:
            answers.check_parties(plan, accepts=accepts_parties)
            answer = _count(exchange, plan, key, config, events, progress=progress)
            answers.keep(plan, SUMS, answer)
        exchange.write(message_name(plan, SUMS, key.name), answer)
    if _announced(plan) in there and message_name(plan, GATE, key.name) not in there:
        answer = answers.kept(plan, GATE)
        if answer is None:
            answer = _judge(exchange, plan, key, config, events, present, progress=progress)
            answers.keep(plan, GATE, answer)
        exchange.write(message_name(plan, GATE, key.name), answer)
    return _standing(exchange, plan)


def collect_federation(exchange: Exchange, key: Key, out: Path) -> Standing:
    """Do what is the coordinator's turn: add up and train, or publish what no party finds worse.

    Parameters
    ----------
    exchange : Exchange
    key : Key
        Of the coordinator.
    out : Path
        Where the bundle is written if it is published.

    Raises
    ------
    DataError
        A message is not as it must be; nothing is written then.
    ExportError
        The bundle would not answer as the model does.
    """
    check_target(out)
    plan = latest_plan(exchange, key.party)
    if _result(plan) in exchange.names():
        return _take(exchange, plan, out)
    if missing_parties(exchange, plan, SUMS):
        return _standing(exchange, plan)
    if _announced(plan) not in exchange.names():
        _train(exchange, plan, key, out)
    if missing_parties(exchange, plan, GATE):
        return _standing(exchange, plan)
    changes: dict[str, float | None] = {}
    is_published = True
    for party in plan.parties:
        with exchange.open(message_name(plan, GATE, party.name)) as file:
            judgement = Message.read(file, plan, GATE, party).value
        changes[party.name] = judgement["change"]
        is_published &= judgement["is_worse"] is False
    if is_published:
        _unpack(exchange, plan, out)
    result = {"plan": plan.sha256, "is_published": is_published, "changes": changes}
    exchange.write(_result(plan), sign_record(result, key))
    return _take(exchange, plan, out)


def repeat_round(exchange: Exchange, key: Key, without: Sequence[str] = ()) -> Plan:
    """Write the next plan: the same again, or without parties that dropped out."""
    plan = latest_plan(exchange, key.party).next_without(frozenset(without))
    plan.write(exchange, key)
    return plan


def _announced(plan: Plan) -> str:
    return f"{plan.number:04}.bundle.json"


def _result(plan: Plan) -> str:
    return f"{plan.number:04}.result.json"


def _standing(exchange: Exchange, plan: Plan) -> Standing:
    for name, is_trained in ((SUMS, False), (GATE, True)):
        if is_trained and _announced(plan) not in exchange.names():
            return Standing(plan.number, SUMS, (plan.coordinator.name,))
        missing = missing_parties(exchange, plan, name)
        if missing:
            return Standing(plan.number, name, tuple(missing))
    return Standing(plan.number, GATE, (plan.coordinator.name,))


def _record(exchange: Exchange, plan: Plan, name: str) -> dict[str, Any]:
    """Read a record of the coordinator about a plan."""
    content, signature = read_record(read_all(exchange, name), name)
    check_signed(content, signature, plan.coordinator, name)
    if content.get("plan") != plan.sha256:
        raise DataError(
            f"{name}: got a record of another plan, expected one of plan {plan.number}: it was "
            f"taken from elsewhere. Fix: get the file from {plan.coordinator.name} again"
        )
    return content


def _take(exchange: Exchange, plan: Plan, out: Path | None) -> Standing:
    """Say how it ended, and write the bundle if it was published."""
    result = _record(exchange, plan, _result(plan))
    written = None
    if result["is_published"] and out is not None:
        _unpack(exchange, plan, out)
        written = out
    return Standing(plan.number, "done", (), result["changes"], result["is_published"], written)


def _zip_of(exchange: Exchange, plan: Plan) -> bytes:
    announced = _record(exchange, plan, _announced(plan))
    content = read_all(exchange, announced["name"])
    if sha256(content) != announced["sha256"]:
        raise DataError(
            f"{announced['name']}: not the bundle that {plan.coordinator.name} signed. Fix: wait "
            "until it is copied, or copy it again"
        )
    return content


def _unpack(exchange: Exchange, plan: Plan, out: Path) -> None:
    with folder_for(out) as folder, BundleWriter(out) as writer:
        (folder / "bundle.zip").write_bytes(_zip_of(exchange, plan))
        unpack(folder / "bundle.zip", writer.directory)
        writer.commit()


def _write_items(table: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.write_ipc(buffer)
    return buffer.getvalue()


def _catalogue(exchange: Exchange, plan: Plan) -> pl.DataFrame:
    written = read_all(exchange, plan.items.name)
    if sha256(written) != plan.items.sha256:
        raise DataError(
            f"{plan.items.name}: not the catalogue that plan {plan.number} names. Fix: get the "
            f"file from {plan.coordinator.name} again"
        )
    return pl.read_ipc(io.BytesIO(written))


def _check_affordable(config: Config, n_items: int) -> None:
    require_tensorflow()
    with quiet_start():
        from shortlist.training.models.linear import is_affordable
    if not is_affordable("cooccurrence", n_items):
        raise DataError(
            f"items: got {n_items:,} in the catalogue, expected at most 8,191: the matrix of all "
            "pairs is added up. Fix: a smaller catalogue"
        )


def _asked(
    config: Config, n_items: int
) -> tuple[dict[str, tuple[int, ...]], tuple[dict[str, float], ...]]:
    """Return what messages hold, and the releases before, once the budget allows another."""
    require_tensorflow()
    with quiet_start():
        from shortlist.training.pipeline.federated import private_claim, shapes_of
        from shortlist.training.pipeline.private import read_parent
    parent = read_parent(config.privacy.parent)
    releases = () if parent is None else tuple(parent["privacy"]["releases"])
    private_claim(config, 1, releases)
    return shapes_of(config, n_items), releases


def _party_config(plan: Plan, overrides: Mapping[str, object]) -> Config:
    other = next((name for name in overrides if not name.startswith("data.")), None)
    if other is not None:
        raise DataError(
            f"{other}: got a setting of a party, expected settings of [data] alone: the plan has "
            "the others. Fix: leave it out, or ask for another plan"
        )
    return apply_overrides(from_toml(plan.settings, source=plan.name), overrides)


def _count(
    exchange: Exchange,
    plan: Plan,
    key: Key,
    config: Config,
    events: TableSource | None,
    *,
    progress: bool,
) -> bytes:
    """Return a party's masked sums."""
    require_tensorflow()
    with quiet_start():
        from shortlist.training.pipeline.federated import count_sums
        from shortlist.training.pipeline.house import load_house
    house = load_house(plan, _catalogue(exchange, plan), config, key.name, events, progress)
    names = ", ".join(party.name for party in plan.parties if party.name != key.name)
    log.info("plan %d: masked for the sum with %s; %s", plan.number, names, _promised(config))
    sums = count_sums(house, config, len(plan.parties))
    return masked_message(plan, key, sums)


def _promised(config: Config) -> str:
    wanted = config.privacy
    if not is_private(config):
        return "no noise: the total is exact"
    return f"with noise: epsilon {wanted.epsilon:g}, delta {wanted.delta:g} for whole users"


def _judge(
    exchange: Exchange,
    plan: Plan,
    key: Key,
    config: Config,
    events: TableSource | None,
    present: Path | None,
    *,
    progress: bool,
) -> bytes:
    """Return a party's judgement of the bundle."""
    require_tensorflow()
    with quiet_start():
        from shortlist.training.pipeline.house import judge, load_house
    house = load_house(plan, _catalogue(exchange, plan), config, key.name, events, progress)
    with folder_for(Path(f"{key.name}.shortlist").absolute()) as folder:
        path = folder / "new.shortlist"
        path.write_bytes(_zip_of(exchange, plan))
        judgement = judge(path, house, config, present)
    return write_message(plan, GATE, key, value=judgement)


def _train(exchange: Exchange, plan: Plan, key: Key, out: Path) -> None:
    """Add up, train, and put the bundle into the exchange for the parties to judge."""
    require_tensorflow()
    total = total_of(exchange, plan)  # before TensorFlow takes its memory
    with quiet_start():
        from shortlist.export.writer import export_bundle
        from shortlist.training.pipeline.federated import private_claim, train_total
    config = from_toml(plan.settings)
    record = {
        "plan": plan.sha256,
        "number": plan.number,
        "coordinator": plan.coordinator.name,
        "parties": [party.name for party in plan.parties],
        "ids": plan.ids,
    }
    with folder_for(out) as folder:
        items = _catalogue(exchange, plan)
        claim = private_claim(config, 1, plan.releases)
        run = train_total(total, items, config, folder / "federated.run", record, claim)
        path = folder / "new.shortlist"
        export_bundle(run, path, store_users=False)
        content = _zipped(path)
    digest = sha256(content)
    name = f"{plan.number:04}.bundle-{digest[:12]}.shortlist"
    exchange.write(name, content)
    announced = {"plan": plan.sha256, "name": name, "sha256": digest}
    exchange.write(_announced(plan), sign_record(announced, key))


def _zipped(bundle: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(bundle.iterdir()):
            archive.write(path, path.name)
    return buffer.getvalue()
