"""Published results on well-known data sets, to be shown beside one's own.

Only results by the same protocol: leave-one-out in file order, all items ranked, seen items
excluded, weights that never saw the items held out.
"""

from __future__ import annotations

from dataclasses import dataclass

from shortlist.training.evaluation.evaluation_report import EvaluationReport

__all__ = ["PUBLISHED", "Published", "published_rows", "published_table"]


@dataclass(frozen=True)
class Published:
    """One line of a table: HR@10 and NDCG@10 of a model, and who says so."""

    model: str
    hit_rate: float
    ndcg: float
    source: str


_ESASREC = "eSASRec, RecSys 2025"
_DROSS = "Turning Dross Into Gold Loss, RecSys 2023"

# Known by the numbers of users and items of the set.
PUBLISHED: dict[tuple[int, int], list[Published]] = {
    (6_040, 3_416): [  # MovieLens-1M, 5-core, as in the SASRec repository
        Published("SASRec, one negative", 0.239, 0.126, "gSASRec repository"),
        Published("BERT4Rec", 0.284, 0.154, _DROSS),
        Published("GRU4Rec, full cross-entropy", 0.281, 0.165, _DROSS),
        Published("SASRec, sampled softmax", 0.293, 0.168, _ESASREC),
        Published("gSASRec", 0.300, 0.173, "gSASRec repository"),
        Published("HSTU", 0.304, 0.172, _ESASREC),
        Published("eSASRec", 0.313, 0.177, _ESASREC),
        Published("SASRec, full cross-entropy", 0.315, 0.182, f"{_DROSS}, as quoted by eSASRec"),
        Published("FuXi-alpha, with timestamps", 0.316, 0.181, _ESASREC),
    ],
    (22_363, 12_101): [  # Amazon Beauty 2014, as in the S3-Rec repository
        Published("SASRec", 0.061, 0.032, "S3-Rec, CIKM 2020"),
        Published("S3-Rec", 0.065, 0.033, "S3-Rec, CIKM 2020"),
        Published("TIGER", 0.065, 0.038, "TIGER, NeurIPS 2023"),
        Published("ActionPiece", 0.078, 0.042, "ActionPiece, ICML 2025"),
        Published("HSTU", 0.079, 0.044, _ESASREC),
        Published("DuoRec", 0.085, 0.044, "DuoRec, WSDM 2022"),
        Published("SASRec, sampled softmax", 0.092, 0.053, _ESASREC),
        Published("eSASRec", 0.093, 0.052, _ESASREC),
    ],
}


def published_rows(report: EvaluationReport) -> list[Published]:
    """Return what is published on the set and protocol of an evaluation of the test users."""
    if report.protocol != "leave-one-out" or report.on != "test" or report.include_seen:
        return []
    return PUBLISHED.get((report.n_users, report.n_items), [])


def published_table(report: EvaluationReport) -> str:
    """Write what `published_rows` gives as a Markdown table; empty if that is nothing."""
    rows = published_rows(report)
    if not rows:
        return ""
    lines = [f"| {r.model} | {r.hit_rate:.3f} | {r.ndcg:.3f} | {r.source} |" for r in rows]
    return "\n".join(["| | HR@10 | NDCG@10 | source |", "|---|---|---|---|", *lines])
