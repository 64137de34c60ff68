"""Every report ends in one sentence that judges, and does not judge where it cannot."""

import json

import numpy as np
import pytest

from shortlist.cli import main
from shortlist.training.evaluation.tables import distinct_metrics, text_table
from shortlist.training.evaluation.verdict import MIN_USERS, judge
from shortlist.training.pipeline.evaluation import evaluate


def users(*values, n=400):
    """Metrics of n users, in turn."""
    return {"NDCG@10": np.resize(np.array(values, np.float64), n)}


def judged(own, others, **options):
    return judge("shop.shortlist", own, others, **{"k": 10, "n_items": 1000} | options)


def test_a_model_is_judged_by_the_best_baseline_user_by_user():
    weak, strong = users(0.0, 0.1), users(0.2, 0.3)
    verdict = judged(users(0.4, 0.5), {"popularity": weak, "EASE": strong})
    assert (verdict.judgement, verdict.baseline) == ("better", "EASE")
    assert verdict.difference == pytest.approx(0.2)
    assert verdict.interval == pytest.approx((0.2, 0.2))  # of pairs: everyone gains the same
    assert verdict.sentence == (
        "shop.shortlist is better than EASE (NDCG@10 +0.2000, 95 % from +0.2000 to +0.2000, 400 "
        "users)"
    )


def test_what_is_within_the_error_says_what_to_prefer():
    noise = np.random.default_rng(0).normal(0.0, 0.2, 400)
    own = {"NDCG@10": 0.3 + noise - noise.mean() + 0.001}
    verdict = judged(own, {"ItemKNN with recency": users(0.3)})
    assert verdict.judgement == "no better"
    assert verdict.interval[0] < 0 < verdict.interval[1]
    assert verdict.sentence.startswith(
        "shop.shortlist is no better than ItemKNN with recency within the error"
    )
    assert verdict.sentence.endswith(
        ": use ItemKNN with recency instead (--preset cooccurrence), or get more data"
    )


def test_what_is_worse_or_the_same_is_called_so():
    worse = judged(users(0.1), {"ItemKNN": users(0.2)})
    assert worse.judgement == "worse"
    assert worse.sentence.endswith(": use ItemKNN instead (--preset item-knn)")
    same = judged(users(0.2), {"ItemKNN": users(0.2)})
    assert same.judgement == "no better"
    assert same.sentence == "shop.shortlist is as good as ItemKNN for each of 400 users"


@pytest.mark.parametrize(
    ("own", "options", "sentence"),
    [
        (users(1.0, n=5), {}, "5 users: too few to judge (at least 20 are needed); get more data"),
        (users(1.0, n=1), {}, "1 user: too few to judge"),
        (users(1.0), {"n_items": 10}, "10 items: a list of 10 holds all of them"),
        (users(1.0), {}, "nothing to compare shop.shortlist with: no baseline was measured"),
    ],
)
def test_what_cannot_be_judged_is_not(own, options, sentence):
    others = {} if sentence.startswith("nothing") else {"EASE": users(0.0, n=len(own["NDCG@10"]))}
    verdict = judged(own, others, **options)
    assert verdict.judgement == "undecided"
    assert verdict.sentence.startswith(sentence)
    assert verdict.to_dict()["difference"] is None
    assert MIN_USERS == 20


def test_a_table_leaves_out_what_other_columns_say_and_aligns_the_rest():
    one = {"HR@10": 0.5, "Recall@10": 0.5, "MRR@10": 0.25, "MAP@10": 0.25, "NDCG@10": 0.5}
    assert distinct_metrics({"a": one}) == ["HR@10", "MRR@10", "NDCG@10"]
    two = one | {"Recall@10": 0.25}  # a user with two targets
    assert distinct_metrics({"a": one, "b": two}) == ["HR@10", "Recall@10", "MRR@10", "NDCG@10"]
    table = text_table({"bundle": {"HR@10": 0.25}, "  to": {}}, ["HR@10"], title="x")
    assert table.split("\n") == [
        "x       HR@10",
        "bundle  0.250",
        "  to        –",
    ]  # fmt: skip


def test_a_training_on_five_events_says_that_they_are_too_few(tmp_path, capsys):
    rows = ["user_id,item_id,timestamp", "a,x,1", "a,y,2", "a,z,3", "b,x,1", "b,y,2"]
    (tmp_path / "events.csv").write_text("\n".join(rows))
    argv = ["train", "--data", str(tmp_path / "events.csv"), "--set", "train.epochs=1", "--quiet"]
    assert main([*argv, "--out", str(tmp_path / "x.shortlist")]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert "measured on 1 user: the metrics of fewer than" in err
    assert "1 of 1 validation user measured; 1 more user has no validation target" in lines
    assert "1 user: too few to judge (at least 20 are needed); get more data" in lines


def test_a_bundle_of_a_baseline_is_not_compared_with_that(shop, tmp_path):
    shop.events.write_csv(tmp_path / "events.csv")
    bundle = str(tmp_path / "x.shortlist")
    argv = ["train", "--data", str(tmp_path / "events.csv"), "--preset", "cooccurrence", "--quiet"]
    assert main([*argv, "--out", bundle]) == 0
    report = evaluate(bundle, tmp_path / "events.csv")
    assert "ItemKNN with recency" in report.metrics
    assert report.verdict.baseline not in (None, "ItemKNN with recency")


def test_a_bundle_with_other_settings_than_the_baseline_is_compared_with_it(shop, tmp_path):
    shop.events.write_csv(tmp_path / "events.csv")
    bundle = str(tmp_path / "x.shortlist")
    argv = ["train", "--data", str(tmp_path / "events.csv"), "--preset", "cooccurrence", "--quiet"]
    assert main([*argv, "--set", "linear.power=3", "--out", bundle]) == 0
    report = evaluate(bundle, tmp_path / "events.csv")
    assert report.verdict.baseline == "ItemKNN with recency"  # users walk in order


def test_a_training_is_judged_on_validation_by_quick_baselines(shop, tmp_path, capsys):
    shop.events.write_csv(tmp_path / "events.csv")
    argv = ["train", "--data", str(tmp_path / "events.csv"), "--set", "train.epochs=1", "--quiet"]
    argv += ["--set", "model.dim=4", "--out", str(tmp_path / "x.shortlist")]
    assert main([*argv, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["validation"]["n_users"] == 40
    verdict = report["validation"]["verdict"]
    assert verdict["baseline"] == "ItemKNN with recency"  # users walk in order
    assert verdict["judgement"] == "worse"
    assert set(report["validation"]["baselines"]) == {"ItemKNN with recency", "popularity"}
    low, high = verdict["interval"]
    assert low <= verdict["difference"] <= high < 0
