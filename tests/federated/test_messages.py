"""What leaves a house: masks that cancel, and messages that fit one party, round and plan."""

from __future__ import annotations

import io

import numpy as np
import pytest
from parties import HEAD, KEYS, SHAPES, key_of, plan_of

from shortlist.errors import DataError
from shortlist.training.federated.exchange import FolderExchange
from shortlist.training.federated.masks import add_masks
from shortlist.training.federated.messages import Message, message_name, write_message
from shortlist.training.federated.plan import GATE, SUMS
from shortlist.training.federated.sums import masked_message, missing_parties, total_of


def sums_of(seed):
    random = np.random.default_rng(seed)
    return {name: random.integers(-5, 2**40, shape) for name, shape in SHAPES.items()}


@pytest.fixture
def exchange(tmp_path):
    return FolderExchange(tmp_path / "exchange", is_new=True)


def answer(exchange, plan, keys=KEYS):
    for seed, key in enumerate(keys):
        message = masked_message(plan, key, sums_of(seed))
        exchange.write(message_name(plan, SUMS, key.name), message)


def test_the_total_is_the_sum_to_the_bit(exchange):
    plan = plan_of()
    assert missing_parties(exchange, plan, SUMS) == ["east", "north", "south", "west"]
    answer(exchange, plan)
    assert missing_parties(exchange, plan, SUMS) == []
    total = total_of(exchange, plan)
    for name in SHAPES:
        expected = sum(sums_of(seed)[name] for seed in range(len(KEYS)))
        np.testing.assert_array_equal(total[name], expected)
        assert total[name].dtype == np.int64


def test_one_message_alone_is_uniform_noise():
    """Chi-square over bytes: the mean of 255 degrees of freedom, within five deviations."""
    numbers = np.zeros(1 << 17, np.int64)
    numbers[::7] = 3 << 32
    plan = plan_of()
    for key in KEYS:
        masked = add_masks(numbers, key, plan.parties, plan.sha256, "sums | pairs")
        counts = np.bincount(np.frombuffer(masked.tobytes(), np.uint8), minlength=256)
        expected = counts.sum() / 256
        statistic = ((counts - expected) ** 2 / expected).sum()
        assert abs(statistic - 255) < 5 * np.sqrt(2 * 255)
        together = np.corrcoef(numbers.astype(float), masked.astype(float))[0, 1]
        assert abs(together) < 5 / np.sqrt(len(numbers))


def test_all_messages_but_one_are_noise_too():
    """Whoever lacks one party's message learns nothing of the sum of the others."""
    plan, numbers = plan_of(), np.zeros(1 << 15, np.int64)
    masked = [add_masks(numbers, key, plan.parties, plan.sha256, "x") for key in KEYS]
    assert not np.any(sum(masked))
    some = np.bincount(np.frombuffer(sum(masked[1:]).tobytes(), np.uint8), minlength=256)
    assert abs(((some - some.mean()) ** 2 / some.mean()).sum() - 255) < 5 * np.sqrt(2 * 255)


def test_each_plan_and_each_tensor_has_masks_of_its_own():
    plan, zeros = plan_of(), np.zeros(8, np.int64)
    other = plan_of(number=2)
    streams = {
        add_masks(zeros, KEYS[0], plan.parties, digest, tensor).tobytes()
        for digest in (plan.sha256, other.sha256)
        for tensor in ("sums | counts", "sums | pairs")
    }
    assert len(streams) == 4


def test_a_message_of_another_round_or_plan_or_party_is_refused(exchange):
    plan, (east, north) = plan_of(), KEYS[:2]
    old = masked_message(plan_of(number=7), east, sums_of(0))
    judged = write_message(plan, GATE, east, value={"change": 0.0, "is_worse": False})
    for message, found in ((old, "round sums of plan 7"), (judged, "round gate of plan 1")):
        with pytest.raises(DataError, match=f"party east, round sums: got a message of .*{found}"):
            Message.read(io.BytesIO(message), plan, SUMS, east.party)
    message = masked_message(plan, north, sums_of(0))
    with pytest.raises(DataError, match=r"party east, round sums: the signature does not fit"):
        Message.read(io.BytesIO(message), plan, SUMS, east.party)


@pytest.mark.parametrize("place", [3, 22, 60, -70, -1])
def test_a_changed_message_is_refused_wherever_it_was_changed(exchange, place):
    plan = plan_of()
    answer(exchange, plan, KEYS[:3])
    message = bytearray(masked_message(plan, KEYS[3], sums_of(3)))
    message[place] ^= 1
    exchange.write(message_name(plan, SUMS, "west"), bytes(message))
    with pytest.raises(DataError, match=r"party west, round sums: .*Fix: west "):
        total_of(exchange, plan)


@pytest.mark.parametrize("n", [0, 10, 200, -1])
def test_a_message_that_is_cut_short_is_refused(exchange, n):
    plan = plan_of()
    answer(exchange, plan, KEYS[:3])
    message = masked_message(plan, KEYS[3], sums_of(3))
    exchange.write(message_name(plan, SUMS, "west"), message[:n])
    with pytest.raises(DataError, match=r"party west, round sums: the message is (cut|damaged)"):
        total_of(exchange, plan)


def test_a_party_with_other_tensors_is_named(exchange):
    plan = plan_of()
    answer(exchange, plan, KEYS[:3])
    other = {"counts": np.zeros(2, np.int64)}
    with pytest.raises(DataError, match=r"party west, round sums: counted .*, but plan 1 asks"):
        masked_message(plan, KEYS[3], other)
    message = write_message(plan, SUMS, KEYS[3], tensors={"counts": np.zeros(2, np.uint64)})
    exchange.write(message_name(plan, SUMS, "west"), message)
    with pytest.raises(DataError, match=r"party west, round sums: got the tensors .*Fix: all par"):
        total_of(exchange, plan)


def test_masks_that_do_not_cancel_are_no_sum(exchange):
    """A party that masks for other partners, such as those of another plan."""
    plan = plan_of()
    answer(exchange, plan, KEYS[:3])
    partners = (*KEYS[:2], key_of("stranger"), KEYS[3])
    masked = {
        name: add_masks(array, KEYS[3], [k.party for k in partners], plan.sha256, f"sums | {name}")
        for name, array in sums_of(3).items()
    }
    message = write_message(plan, SUMS, KEYS[3], tensors=masked)
    exchange.write(message_name(plan, SUMS, "west"), message)
    with pytest.raises(DataError, match=r"round sums: the masks in .* do not cancel.*--repeat"):
        total_of(exchange, plan)


def test_numbers_whose_total_could_overflow_are_refused_at_home():
    sums = {"counts": np.array([0, -(2**60), 0]), "pairs": np.zeros((3, 3), np.int64)}
    with pytest.raises(DataError, match=r"party east, round sums: got .* in counts, .*overflow"):
        masked_message(plan_of(), KEYS[0], sums)


def test_the_exchange_gives_a_name_one_content(exchange):
    exchange.write("a", b"one")
    exchange.write("a", b"one")
    for other in (b"two", b"longer"):
        with pytest.raises(DataError, match=r"a holds another content already.*--repeat"):
            exchange.write("a", other)
    with exchange.open("a") as file:
        assert file.read() == b"one"
    with pytest.raises(DataError, match="has no b, expected it there"):
        exchange.open("b")
    assert exchange.names() == ["a"]


def test_a_folder_that_is_not_there_is_no_exchange(tmp_path):
    with pytest.raises(DataError, match=r"exchange: got .*nowhere, which is no folder"):
        FolderExchange(tmp_path / "nowhere")


def test_head_is_no_party():
    with pytest.raises(DataError, match=r"party: got 'head', which is not in plan 1"):
        plan_of().party(HEAD.name)
