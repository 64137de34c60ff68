"""The jobs of a federation: plan, join, collect. Each goes on from what lies in the exchange.

A party's events are seen by `join` alone, on the party's machine. What leaves it is one masked
message of sums a round, and one number that judges the bundle.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from shortlist._quiet import quiet_start
from shortlist._temporary import folder_for
from shortlist.bundle import check_target
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
from shortlist.training.federated.exchange import Exchange
from shortlist.training.federated.ids import SCHEMES, unified
from shortlist.training.federated.keys import Key, Party
from shortlist.training.federated.messages import message_name, write_message
from shortlist.training.federated.plan import GATE, SUMS, File, Items, Plan, latest_plan
from shortlist.training.federated.settings import federated_config, has_rounds, shared_settings
from shortlist.training.federated.signing import sha256, sign_record
from shortlist.training.federated.sums import masked_message, missing_parties, total_of
from shortlist.training.federated.weights import BITS, read_arrays, write_arrays
from shortlist.training.pipeline.standing import (
    BUNDLE,
    Standing,
    announced_name,
    catalogue_of,
    file_of,
    judgement_of,
    result_name,
    standing_of,
    take,
    unpack_bundle,
    zip_of,
)
from shortlist.training.privacy.release import claim_of
from shortlist.training.privacy.settings import is_private

if TYPE_CHECKING:
    from shortlist.training.config.sections import Config
    from shortlist.training.data.events import Dataset
    from shortlist.training.data.tables import TableSource
    from shortlist.training.fit.fit import TrainedModel
    from shortlist.training.pipeline.rounds import Model

__all__ = [
    "Standing",
    "collect_federation",
    "join_federation",
    "plan_federation",
    "repeat_round",
]


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
    if not has_rounds(config) or config.train.item_init == "cooccurrence":
        _check_affordable(config, table.height)
    tensors, releases = _asked(config, table.height)
    written = _write_items(table)
    columns = {name: str(kind) for name, kind in table.schema.items()}
    digest = sha256(written)
    catalogue = Items(f"items-{digest[:12]}.arrow", digest, table.height, columns)
    ordered = tuple(sorted(parties, key=lambda party: party.name))
    config = apply_overrides(config, {"privacy.parent": ""})  # a path of the coordinator
    plan = Plan(1, key.party, ordered, shared_settings(config), catalogue, ids, tensors, releases)
    if has_rounds(config):
        plan = replace(plan, bits=BITS, n_rounds=config.federated.rounds)
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
    """Do what is a party's turn: count, train, judge the bundle, or take it.

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
    with answers.alone():
        trusted = coordinator or answers.trusted()
        plan = latest_plan(exchange, trusted)
        if plan.party(key.name) != key.party:
            raise DataError(
                f"party {key.name}: plan {plan.number} has another key of this name, expected that "
                "of the key file. Fix: use the key that the coordinator got, or ask for a new plan"
            )
        if out is not None:
            check_target(out)
        answers.trust(plan.coordinator)
        there = exchange.names()
        if result_name(plan) in there:
            return take(exchange, plan, out, answers)
        config = _party_config(plan, overrides or {})
        if message_name(plan, SUMS, key.name) not in there:
            answer = answers.kept(plan, SUMS)
            if answer is None:
                answers.check_parties(plan, accepts=accepts_parties)
                answer = _count(exchange, plan, key, config, events, progress=progress)
                answers.keep(plan, SUMS, answer)
            exchange.write(message_name(plan, SUMS, key.name), answer)
        if announced_name(plan) in there and message_name(plan, GATE, key.name) not in there:
            answer = answers.kept(plan, GATE)
            if answer is None:
                house = _house(exchange, plan, key, config, events, progress=progress)
                answer = _judge(exchange, plan, key, config, house, present, answers)
                answers.keep(plan, GATE, answer)
            exchange.write(message_name(plan, GATE, key.name), answer)
        return standing_of(exchange, plan)


def collect_federation(exchange: Exchange, key: Key, out: Path) -> Standing:
    """Do what is the coordinator's turn: add up, and plan the next round or make the bundle.

    Once all have judged it is published, if no party is worse.

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
    if result_name(plan) in exchange.names():
        return take(exchange, plan, out)
    if missing_parties(exchange, plan, SUMS):
        return standing_of(exchange, plan)
    if not plan.is_last:
        return standing_of(exchange, _advance(exchange, plan, key))
    if announced_name(plan) not in exchange.names():
        _train(exchange, plan, key, out)
    if missing_parties(exchange, plan, GATE):
        return standing_of(exchange, plan)
    changes: dict[str, float | None] = {}
    is_published = True
    for party in plan.parties:
        changes[party.name], is_worse = judgement_of(exchange, plan, party.name)
        is_published &= not is_worse
    if is_published:
        unpack_bundle(exchange, plan, out)
    result = {"plan": plan.sha256, "is_published": is_published, "changes": changes}
    exchange.write(result_name(plan), sign_record(result, key))
    return take(exchange, plan, out)


def repeat_round(exchange: Exchange, key: Key, without: Sequence[str] = ()) -> Plan:
    """Write the next plan: the same again, or without parties that dropped out.

    A private round whose answers were all there is one more release of the same users.

    Raises
    ------
    DataError
        A name is none of the plan's, or the releases together cost more than ``privacy.budget``.
    """
    plan = latest_plan(exchange, key.party)
    again = plan.next_without(frozenset(without))
    config = from_toml(plan.settings)
    if is_private(config) and not missing_parties(exchange, plan, SUMS):
        spent = claim_of(config.privacy, 1, plan.releases)
        again = replace(again, releases=(*plan.releases, spent.own))
        claim_of(config.privacy, 1, again.releases)
    again.write(exchange, key)
    return again


def _write_items(table: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.write_ipc(buffer)
    return buffer.getvalue()


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
        from shortlist.training.pipeline.rounds import first_shapes
    parent = read_parent(config.privacy.parent)
    releases = () if parent is None else tuple(parent["privacy"]["releases"])
    private_claim(config, 1, releases)
    shapes = first_shapes if has_rounds(config) else shapes_of
    return shapes(config, n_items), releases


def _party_config(plan: Plan, overrides: Mapping[str, object]) -> Config:
    other = next((name for name in overrides if not name.startswith("data.")), None)
    if other is not None:
        raise DataError(
            f"{other}: got a setting of a party, expected settings of [data] alone: the plan has "
            "the others. Fix: leave it out, or ask for another plan"
        )
    return apply_overrides(from_toml(plan.settings, source=plan.name), overrides)


def _house(
    exchange: Exchange,
    plan: Plan,
    key: Key,
    config: Config,
    events: TableSource | None,
    *,
    progress: bool,
) -> Dataset:
    """Load a party's events."""
    require_tensorflow()
    with quiet_start():
        from shortlist.training.pipeline.house import load_house
    return load_house(plan, catalogue_of(exchange, plan), config, key.name, events, progress)


def _count(
    exchange: Exchange,
    plan: Plan,
    key: Key,
    config: Config,
    events: TableSource | None,
    *,
    progress: bool,
) -> bytes:
    """Return a party's masked sums: its counts, or how its training changed the weights."""
    house = _house(exchange, plan, key, config, events, progress=progress)
    others = [party for party in plan.parties if party.name != key.name]
    names = ", ".join(f"{party.name} ({party.fingerprint})" for party in others)
    log.info("plan %d: masked for the sum with %s; %s", plan.number, names, _promised(config))
    from shortlist.training.pipeline import federated, rounds

    if plan.round > 0:
        where = f"party {key.name}, training round {plan.round} of plan {plan.number}"
        model = _model(exchange, plan)
        sums = rounds.train_locally(house, model, config, plan.round, where)
    elif plan.n_rounds > 0:
        sums = rounds.count_first(house, config, len(plan.parties))
    else:
        sums = federated.count_sums(house, config, len(plan.parties))
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
    house: Dataset,
    present: Path | None,
    answers: Answers,
) -> bytes:
    """Return a party's judgement of the bundle, which it keeps beside its answers."""
    from shortlist.training.pipeline.house import judge

    content = zip_of(exchange, plan, answers)
    answers.keep(plan, BUNDLE, content)
    with folder_for(answers.folder / "new.shortlist") as folder:
        path = folder / "new.shortlist"
        path.write_bytes(content)
        judgement = judge(path, house, config, present)
    return write_message(plan, GATE, key, value=judgement)


def _model(exchange: Exchange, plan: Plan) -> Model:
    from shortlist.training.pipeline.rounds import Model

    assert plan.model is not None
    return Model.from_bytes(file_of(exchange, plan, plan.model))


def _next_model(exchange: Exchange, plan: Plan) -> tuple[Model, dict[str, Any]]:
    """Return the weights and the coordinator's state after a round."""
    require_tensorflow()
    total = total_of(exchange, plan)
    with quiet_start():
        from shortlist.training.pipeline import rounds
    config = from_toml(plan.settings)
    if plan.state is None:
        return rounds.first_model(total, catalogue_of(exchange, plan), config)
    state = read_arrays(file_of(exchange, plan, plan.state))
    return rounds.next_model(total, _model(exchange, plan), state, config)


def _advance(exchange: Exchange, plan: Plan, key: Key) -> Plan:
    """Add up, and put the next weights and their plan into the exchange; the plan last."""
    model, state = _next_model(exchange, plan)
    files = {}
    for kind, content in (("model", model.to_bytes()), ("state", write_arrays(state))):
        digest = sha256(content)
        files[kind] = File(f"{plan.number + 1:04}.{kind}-{digest[:12]}.npz", digest)
        exchange.write(files[kind].name, content)
    shapes = model.shapes(from_toml(plan.settings))
    made = plan.next_round(files["model"], files["state"], shapes)
    made.write(exchange, key)
    return made


def _train(exchange: Exchange, plan: Plan, key: Key, out: Path) -> None:
    """Add up, make the bundle, and put it into the exchange for the parties to judge."""
    record = {
        "plan": plan.sha256,
        "number": plan.number,
        "coordinator": plan.coordinator.name,
        "parties": [party.name for party in plan.parties],
        "ids": plan.ids,
    }
    with folder_for(out) as folder:
        run = _run(exchange, plan, folder / "federated.run", record)
        from shortlist.export.writer import export_bundle

        path = folder / "new.shortlist"
        export_bundle(run, path, store_users=False)
        content = _zipped(path)
    digest = sha256(content)
    name = f"{plan.number:04}.bundle-{digest[:12]}.shortlist"
    exchange.write(name, content)
    announced = {"plan": plan.sha256, "name": name, "sha256": digest}
    exchange.write(announced_name(plan), sign_record(announced, key))


def _run(exchange: Exchange, plan: Plan, folder: Path, record: dict[str, Any]) -> TrainedModel:
    config, items = from_toml(plan.settings), catalogue_of(exchange, plan)
    if plan.n_rounds > 0:
        model, state = _next_model(exchange, plan)
        from shortlist.training.pipeline.rounds import finish_rounds

        record["rounds"] = plan.n_rounds
        return finish_rounds(model, state, items, config, folder, record)
    require_tensorflow()
    total = total_of(exchange, plan)  # before TensorFlow takes its memory
    with quiet_start():
        from shortlist.training.pipeline.federated import private_claim, train_total
    claim = private_claim(config, 1, plan.releases)
    return train_total(total, items, config, folder, record, claim)


def _zipped(bundle: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(bundle.iterdir()):
            archive.write(path, path.name)
    return buffer.getvalue()
