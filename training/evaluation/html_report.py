"""An evaluation as one HTML page: no script, no other file, nothing from the network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import shortlist
from shortlist.training.data.counted import counted
from shortlist.training.evaluation.beyond import ColumnShares
from shortlist.training.evaluation.comparison import Comparison
from shortlist.training.evaluation.counts import REASONS, UserCounts
from shortlist.training.evaluation.dots import Dot, dots, escaped
from shortlist.training.evaluation.evaluation_report import EvaluationReport
from shortlist.training.evaluation.published import published_rows
from shortlist.training.evaluation.report_tables import (
    Table,
    accuracy,
    captions,
    further_tables,
    segment_rows,
)

__all__ = ["evaluation_html"]

Intervals: TypeAlias = Mapping[str, Mapping[str, tuple[float, float]]]

# No style reaches outside: the page may load nothing at all.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; --text: #1c2024; --soft: #60646c; --line: #d9d9e0;
  --page: #ffffff; --box: #f4f6f9; --own: #0b68cb; --other: #b4530a; --plain: #6b7280;
  --good: #18794e; --bad: #c62a2f; --open: #8a6100; }
@media (prefers-color-scheme: dark) { :root { --text: #edeef0; --soft: #b0b4ba; --line: #43484e;
  --page: #15181b; --box: #1f2327; --own: #70b8ff; --other: #ffa057; --plain: #a5abb4;
  --good: #3dd68c; --bad: #ff9592; --open: #ffca16; } }
body { margin: 0 auto; max-width: 60rem; padding: 1rem 1rem 3rem; background: var(--page);
  color: var(--text); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { margin-bottom: 0; font-size: 1.6rem; } h2 { margin-top: 2.2rem; font-size: 1.2rem; }
p { max-width: 46rem; } .soft, footer, caption, small { color: var(--soft); }
.verdict { margin: 1rem 0; padding: .7rem 1rem; border-left: 5px solid var(--open);
  background: var(--box); font-size: 1.05rem; }
.verdict.better { border-color: var(--good); } .verdict.worse { border-color: var(--bad); }
.warning { padding: .4rem 1rem; border-left: 5px solid var(--open); background: var(--box); }
.wide { overflow-x: auto; } table { border-collapse: collapse; margin: .6rem 0; font-size: .92rem; }
caption { text-align: left; padding-bottom: .3rem; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: right;
  font-variant-numeric: tabular-nums; white-space: nowrap; }
th:first-child { text-align: left; white-space: normal; min-width: 11rem; }
tbody th { font-weight: normal; } tr.own th, tr.own td { font-weight: 600; }
small { display: block; } svg { width: 100%; height: auto; margin: .4rem 0; }
svg text { fill: var(--text); font: 13px system-ui, sans-serif; }
svg .tick { fill: var(--soft); font-size: 12px; } svg .grid { stroke: var(--line); }
svg .zero { stroke: var(--text); stroke-dasharray: 3 3; }
svg g { --ink: var(--plain); } svg g.own { --ink: var(--own); } svg g.other { --ink: var(--other); }
.key.own { color: var(--own); } .key.other { color: var(--other); }
.key.plain { color: var(--plain); }
svg g line { stroke: var(--ink); stroke-width: 2; } svg g circle { fill: var(--ink); }
@media print { body { max-width: none; } }
"""
_BEYOND_NOTE = (
    "ILD: mean distance (1 − cosine of the bundle's item vectors) between the items of a list. "
    "Gini: how unevenly the places go to items, 0 alike, 1 all to one. Coverage: part of the items "
    "that stand in some list. Novelty: mean of −log2 of an item's part of the train events. KL: "
    "how far a list's mixture of values is from that of the history, 0 is the same."
)


def evaluation_html(report: EvaluationReport) -> str:
    """Write an evaluation as a page of HTML that is well-formed XML too."""
    bundle = next(iter(report.metrics))
    title = f"{bundle} on {report.dataset}"
    sections = [
        f"<header><h1>{escaped(title)}</h1>"
        f'<p class="soft">{escaped(_subtitle(report))}</p></header>',
        *_judgement(report),
        *_users(report),
        *_rankers(report),
        *_further(report),
        *_segments(report),
        *_published(report),
        f"<footer><p>Written by shortlist {escaped(shortlist.__version__)}. Intervals are 95 % "
        "percentile intervals of 1,000 bootstrap samples of users.</p></footer>",
    ]
    head = (
        '<meta charset="utf-8"/>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f"<title>{escaped(title)}</title>\n<style>{_STYLE}</style>"
    )
    body = "\n".join(sections)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n'
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _subtitle(report: EvaluationReport) -> str:
    part = "validation" if report.on == "valid" else report.on
    return f"protocol {report.protocol}, {part} part, {counted(report.n_users, 'user')}"


def _judgement(report: EvaluationReport) -> list[str]:
    """Write the verdict, the comparisons, and what speaks against the figures."""
    verdict, against = report.verdict, report.against
    parts = [] if verdict is None else [_box(verdict.judgement, f"Verdict: {verdict.sentence}")]
    parts += [_box(one.judgement, one.sentence) for one in against]
    return parts + [f'<p class="warning">Warning: {escaped(text)}.</p>' for text in report.warnings]


def _box(judgement: str, sentence: str) -> str:
    kind = judgement.replace(" ", "-")
    return f'<p class="verdict {escaped(kind)}">{escaped(sentence)}.</p>'


def _users(report: EvaluationReport) -> list[str]:
    users = report.users or UserCounts(report.n_users)
    reasons = REASONS | {"no_target": f"without a {report.on} target"}
    rows = {"measured": {"users": float(users.measured)}}
    rows |= {
        f"left out: {reasons[name]}": {"users": float(n)}
        for name, n in users.left_out().items()
        if n
    }
    texts = " ".join(f"{escaped(text)}." for text in captions(report)[1:])
    return [
        "<section><h2>What was measured</h2>",
        f"<p>{texts}</p>",
        _table(Table("", rows, ["users"], 0)),
        "</section>",
    ]


def _rankers(report: EvaluationReport) -> list[str]:
    bundle = next(iter(report.metrics))
    columns = accuracy(report.metrics)
    ndcg = [name for name in columns if name.startswith("NDCG@")][:1]
    cutoffs = list(dict.fromkeys(name.partition("@")[2] for name in columns))
    parts = [f"<section><h2>{escaped(bundle)} beside others</h2>"]
    for metric in ndcg:
        order = sorted(report.metrics, key=lambda name: -report.metrics[name][metric])
        rows = [
            Dot(name, report.metrics[name][metric],
                report.ranker_intervals.get(name, {}).get(metric), _kind(report, name))
            for name in order
        ]  # fmt: skip
        parts.append(dots(rows, f"{metric} with 95 % intervals"))
    for k in cutoffs:
        shown = [name for name in columns if name.endswith(f"@{k}")]
        table = Table("", report.metrics, shown)
        parts.append(_table(table, report.ranker_intervals, own=bundle))
    return [*parts, "</section>"]


def _kind(report: EvaluationReport, name: str) -> str:
    if name.partition(",")[0] == next(iter(report.metrics)):
        return "own"
    return "other" if name in {one.other for one in report.against} else "plain"


def _further(report: EvaluationReport) -> Iterable[str]:
    """Write the tables that were asked for, each with its plot."""
    against = iter(report.against)
    shares = iter(report.beyond.columns if report.beyond is not None else ())
    for table in further_tables(report):
        parts = [f"<p>{escaped(note)}.</p>" for note in table.notes]
        match table.kind:
            case "against":
                parts += _difference_dots(next(against), table.columns)
            case "seeds":
                parts += _seed_dots(report)
            case "beyond":
                parts.append(f"<p>{escaped(_BEYOND_NOTE)}</p>")
            case "shares":
                parts += _share_dots(next(shares))
        parts += [_table(table)] if table.rows else []
        yield "\n".join([f"<section><h2>{escaped(table.title)}</h2>", *parts, "</section>"])


def _difference_dots(comparison: Comparison, metrics: Sequence[str]) -> list[str]:
    rows = [
        Dot(metric, comparison.differences[metric], comparison.intervals[metric], "own")
        for metric in metrics
    ]
    title = f"{comparison.name} less {comparison.other}, with 95 % intervals"
    return [dots(rows, title, are_differences=True)] if rows else []


def _seed_dots(report: EvaluationReport) -> list[str]:
    seeds = report.seeds
    if seeds is None or not seeds.runs:
        return []
    bundle = next(iter(report.metrics))
    metric = next(name for name in report.intervals if name.startswith("NDCG@"))
    rows = [Dot(bundle, report.metrics[bundle][metric], report.intervals[metric], "own")]
    rows += [Dot(f"seed {run.seed}", run.metrics[metric]) for run in seeds.runs]
    label = "median, from lowest to highest"
    rows.append(Dot(label, seeds.medians[metric], seeds.ranges[metric], "other", "all"))
    return [dots(rows, f"{metric}; of the bundle with the 95 % interval over users")]


def _share_dots(shares: ColumnShares) -> list[str]:
    if not shares.rows:
        return []
    rows = []
    for share in shares.rows:
        lists = tuple(
            Dot(f"{share.value}, lists of {ranker}", part, None, "other" if i else "own")
            for i, (ranker, part) in enumerate(share.lists.items())
        )
        rows.append(Dot(f"{share.value}, histories", share.histories, beside=lists))
    own, *others = shares.rows[0].lists
    keys = [("plain", "histories"), ("own", f"lists of {own}")]
    keys += [("other", f"lists of {other}") for other in others]
    legend = ", ".join(f'<span class="key {kind}">●</span> {escaped(text)}' for kind, text in keys)
    return [f"<p>{legend}</p>", dots(rows, f"part of all, by {shares.column}", digits=3)]


def _segments(report: EvaluationReport) -> list[str]:
    if not report.segments:
        return []
    rows = segment_rows(report)
    columns = accuracy(rows)
    metric = next((name for name in columns if name.startswith("NDCG@")), columns[0])
    points = [
        Dot(label, segment.metrics[metric], segment.intervals.get(metric), "own")
        for label, segment in zip(rows, report.segments, strict=True)
    ]
    shown = [name for name in columns if name.partition("@")[2] == metric.partition("@")[2]]
    intervals = {
        label: segment.intervals for label, segment in zip(rows, report.segments, strict=True)
    }
    bundle = next(iter(report.metrics))
    return [
        f"<section><h2>{escaped(bundle)} by segment of users</h2>",
        "<p>By length of the history, and by how popular the targets are (mean train events).</p>",
        dots(points, f"{metric} with 95 % intervals"),
        _table(Table("", rows, shown), intervals),
        "</section>",
    ]


def _published(report: EvaluationReport) -> list[str]:
    published = published_rows(report)
    if not published:
        return []
    lines = "\n".join(
        f'<tr><th scope="row">{escaped(row.model)}</th><td>{row.hit_rate:.3f}</td>'
        f"<td>{row.ndcg:.3f}</td><td>{escaped(row.source)}</td></tr>"
        for row in published
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("", "HR@10", "NDCG@10", "source"))
    return [
        "<section><h2>Published on this set and protocol</h2>",
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>'
        "</div></section>",
    ]


def _table(table: Table, intervals: Intervals | None = None, *, own: str = "") -> str:
    """Write a table; a cell whose interval is known shows it below the number."""
    head = "".join(f'<th scope="col">{escaped(name)}</th>' for name in ("", *table.columns))
    lines = []
    for label, row in table.rows.items():
        known = (intervals or {}).get(label, {})
        cells = "".join(_cell(row, name, known, table.digits) for name in table.columns)
        mark = ' class="own"' if own and label == own else ""
        lines.append(f'<tr{mark}><th scope="row">{escaped(label)}</th>{cells}</tr>')
    body = "\n".join(lines)
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>'
        "</div>"
    )


def _cell(
    row: Mapping[str, float], name: str, known: Mapping[str, tuple[float, float]], digits: int
) -> str:
    if name not in row:
        return "<td>–</td>"
    text = f"{row[name]:,.{digits}f}"
    if name in known:
        low, high = known[name]
        text += f"<small>{low:.{digits}f}–{high:.{digits}f}</small>"
    return f"<td>{text}</td>"
