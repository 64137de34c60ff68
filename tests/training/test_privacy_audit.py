"""The audit convicts a mechanism with a quarter of its noise, and never the true one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shortlist.cli import main
from shortlist.errors import DataError
from shortlist.training import train
from shortlist.training.pipeline.audit import audit_bundle
from shortlist.training.privacy.accounting import noise_scale, steps_for
from shortlist.training.privacy.audit import audit, lower_bound
from shortlist.training.privacy.contributions import Bounds
from shortlist.training.privacy.noise import unsafe_bytes
from tests.training.test_private_bundle import events_of, items_table

BOUNDS = Bounds(window=10, decay_gap=0.8, max_events=1000)
DELTA = 1e-5


def run(epsilon, noise=1.0, seed=0):
    sigma, source = noise * noise_scale(epsilon, DELTA), unsafe_bytes(seed)
    return audit(epsilon, DELTA, sigma, BOUNDS, 60, n_canaries=1000, source=source)


def run_steps(epsilon, noise=1.0, seed=0):
    """Half of ε for the statistics, and 50 steps that see a fifth of the users each."""
    first = noise_scale(epsilon / 2, DELTA)
    steps = steps_for(epsilon, DELTA, first, 0.2, 50)
    less = replace(steps, sigma=noise * steps.sigma)
    source = unsafe_bytes(seed)
    return audit(
        epsilon, DELTA, noise * first, BOUNDS, 60, steps=less, n_canaries=1000, source=source
    )


def check(n_runs, run=run):
    for seed in range(n_runs):
        for epsilon in (1.0, 2.0, 8.0):
            assert not run(epsilon, seed=seed).is_convicted
        assert run(2.0, noise=0.25, seed=seed).is_convicted


def test_a_quarter_of_the_noise_is_convicted_and_the_true_mechanism_is_not():
    check(2)


def test_noisy_steps_with_a_quarter_of_the_noise_are_convicted_and_the_true_ones_are_not():
    assert not run_steps(2.0).is_convicted
    assert run_steps(2.0, noise=0.25).is_convicted


@pytest.mark.slow
@pytest.mark.parametrize("run", [run, run_steps])
def test_twenty_audits_never_pass_the_promise_and_catch_every_sabotage(run):
    check(20, run)


def test_without_noise_nearly_all_guesses_are_right():
    report = run(2.0, noise=1e-6)
    assert report.n_right > 0.98 * report.n_guesses
    assert report.lower_bound > 4.0
    assert "CONVICTED" in str(report)


def test_the_bound_is_that_of_the_binomial_tail():
    assert lower_bound(50, 100, 1000, DELTA, 0.05) == 0.0
    assert lower_bound(100, 100, 1000, 0.0, 0.05) == pytest.approx(3.49, abs=0.01)
    assert lower_bound(100, 100, 1000, 1e-4, 0.05) < lower_bound(100, 100, 1000, 0.0, 0.05)


def test_the_command_prints_the_bound_beside_the_promise(tmp_path, capsys):
    out = tmp_path / "a.shortlist"
    settings = {"privacy.epsilon": 8.0, "model.encoder": "popularity"}
    train(events_of(0), items_table(), out=out, settings=settings, progress=False)
    assert main(["audit", str(out), "--canaries", "500"]) == 0
    shown = capsys.readouterr().out
    assert "promised 8 at delta 0.001" in shown
    assert "this proves no ε" in shown
    assert main(["audit", str(out), "--canaries", "5000"]) == 1
    assert "got 5,000 with 37 items, expected at most their 666 pairs" in capsys.readouterr().err
    with pytest.raises(DataError, match="canaries: got -1, expected 100 or more"):
        audit_bundle(out, n_canaries=-1)
