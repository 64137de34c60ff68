"""Older operator sets, which `export.opset` allows, give the same answers."""

from dataclasses import replace

import onnx
import pytest

from shortlist.export import export_bundle


@pytest.mark.parametrize("opset", [13, 15])
@pytest.mark.parametrize("kind", ["dnn", "followers"])
def test_graphs_of_older_operator_sets_pass_the_gate(kind, opset, make_any_run, tmp_path):
    run = make_any_run("pool", kind, {"scorer.n_candidates": 40})
    settings = replace(run.config.export, opset=opset)
    run = replace(run, config=replace(run.config, export=settings))
    report = export_bundle(run, tmp_path / "toy.shortlist")
    assert all(told["n_users"] > 50 for told in report.parity.graphs.values())
    for path in report.path.glob("*.onnx"):
        opsets = onnx.load(path, load_external_data=False).opset_import
        assert {o.domain: o.version for o in opsets}[""] == opset
