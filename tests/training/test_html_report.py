"""The page of an evaluation is one valid file in which no text is markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from shortlist.cli import main
from shortlist.errors import DataError
from shortlist.training.evaluation.beyond import BeyondAccuracy, ColumnShares, Share
from shortlist.training.evaluation.comparison import Comparison
from shortlist.training.evaluation.counts import UserCounts
from shortlist.training.evaluation.dots import Dot, dots
from shortlist.training.evaluation.evaluation_report import EvaluationReport
from shortlist.training.evaluation.html_report import evaluation_html
from shortlist.training.evaluation.report import evaluation_text, write_report
from shortlist.training.evaluation.seeds import SeedRun, no_seeds, seeds_report
from shortlist.training.evaluation.segments import Segment
from shortlist.training.evaluation.verdict import Verdict

EVIL = '</title><script>alert(\'x\')</script>"><img src=x onerror="y">&amp;\u202e\x1b\x00'
A, B = f"a{EVIL}.shortlist", f"b{EVIL}.shortlist"
METRICS = {"HR@10": 0.25, "Recall@10": 0.2, "NDCG@10": 0.125, "coverage@10": 0.5}
SPANS = {"HR@10": (0.2, 0.3), "Recall@10": (0.15, 0.25), "NDCG@10": (0.1, 0.15)}


@pytest.fixture
def report():
    lower = {name: value / 2 for name, value in METRICS.items()}
    differences = {name: value for name, value in lower.items() if name != "coverage@10"}
    against = Comparison(A, B, "better", f"{A} is better than {B}", 90, "NDCG@10", differences,
                         {name: (0.0, 0.2) for name in differences})  # fmt: skip
    runs = [SeedRun(seed, METRICS | {"NDCG@10": 0.1 + seed / 100}) for seed in (2, 3, 4)]
    shares = ColumnShares(EVIL, (Share(EVIL, 3, 0.5, 0.25, {A: 0.125, B: 0.5}),))
    return EvaluationReport(
        dataset=EVIL,
        protocol="leave-one-out",
        on="test",
        n_users=90,
        n_items=1234,
        metrics={A: METRICS, B: lower, "popularity": lower},
        intervals=SPANS,
        segments=(Segment(EVIL, 90, METRICS, SPANS),),
        warnings=(EVIL,),
        users=UserCounts(90, no_target=7, no_history=5, other_items=3),
        tables={"items": "data", "users": "bundle"},
        verdict=Verdict("no better", f"{A} is no better", 90, "NDCG@10"),
        ranker_intervals={A: SPANS, B: SPANS},
        against=(against,),
        beyond=BeyondAccuracy(10, {A: {"ILD@10": 0.75, "Gini@10": 0.5}}, (shares,)),
        seeds=seeds_report(A, METRICS, SPANS, runs, "NDCG@10"),
    )


VOID = {"meta", "line", "circle"}


class Nesting(HTMLParser):
    """What a browser would see: tags, attributes and text, each end tag with its start."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in VOID, tag
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(page):
    parser = Nesting()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def test_the_page_is_valid_and_loads_nothing(report):
    page = evaluation_html(report)
    assert page.startswith('<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>')
    root = ElementTree.fromstring(page)
    assert [child.tag for child in root] == ["head", "body"]
    seen = parsed(page)
    assert set(seen.tags) == {
        *("html", "head", "meta", "title", "style", "body", "main", "header", "section", "footer"),
        *("h1", "h2", "p", "div", "span", "table", "thead", "tbody", "tr", "th", "td", "small"),
        *("svg", "g", "line", "circle", "text"),
    }
    names = {name for name, _ in seen.attributes}
    assert not names & {"src", "href", "srcset", "style", "data", "action"}
    assert not any(name.startswith("on") for name in names)
    assert "url(" not in page
    assert "://" not in page
    assert "@import" not in page
    policy = dict(seen.attributes)["content"], "default-src 'none'; style-src 'unsafe-inline'"
    assert policy[1] in [value for _, value in seen.attributes]


def test_every_text_is_escaped(report):
    page = evaluation_html(report)
    assert "<script" not in page.lower()
    assert "<img" not in page.lower()
    assert "\u202e" not in page
    assert all(c.isprintable() or c == "\n" for c in page)
    title = ElementTree.fromstring(page).find("head/title").text
    shown = EVIL.replace("\u202e", "\\u202e").replace("\x1b", "\\u001b").replace("\x00", "\\u0000")
    assert title == f"a{shown}.shortlist on {shown}"


def test_the_page_has_all_parts_and_both_colour_schemes(report):
    page = evaluation_html(report)
    root = ElementTree.fromstring(page)
    titles = [heading.text for heading in root.iter("h2")]
    assert [title.partition(" ")[0] for title in titles] == [
        *("What", "a</title><script>alert('x')</script>\"><img"),
        *("Against", "Other", "Beyond", "Shares", "a</title><script>alert('x')</script>\"><img"),
    ]
    text = " ".join("".join(root.itertext()).split())
    for sentence in (
        "All 1,234 items ranked, seen items left out.",
        "left out: without a history5",
        "left out: whose targets are items that only some of the bundles have3",
        "Verdict: a",
        "From the bundle, not from the data: users.",
        "median 0.1300, from 0.1200 to 0.1400; 0.0200 between seeds, 0.0500 between users",
        "0.1250.100–0.150",
    ):
        assert sentence in text, sentence
    assert [svg.get("role") for svg in root.iter("svg")] == ["img"] * 5
    assert "color-scheme: light dark" in page
    assert "@media (prefers-color-scheme: dark)" in page
    style = page[page.index("<style>") : page.index("</style>")]
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    colours = set(re.findall(r"(--\w+): #", light))
    assert (
        colours
        == set(re.findall(r"(--\w+): #", dark))
        >= set(re.findall(r"var\((--\w+)\)", style)) - {"--ink"}
    )


def test_models_without_randomness_say_so(report):
    object.__setattr__(report, "seeds", no_seeds("ease"))
    page = evaluation_html(report)
    assert "seeds change nothing: ease is computed" in page
    parsed(page)
    object.__setattr__(report, "metrics", {A: METRICS})
    for name in ("seeds", "beyond", "verdict", "users"):
        object.__setattr__(report, name, None)
    for name in ("segments", "against", "warnings"):
        object.__setattr__(report, name, ())
    parsed(evaluation_html(report))


def test_the_ending_chooses_the_format(report, tmp_path):
    for name in ("page.html", "PAGE.HTML"):
        write_report(report, tmp_path / name)
        assert (tmp_path / name).read_text(encoding="utf-8") == evaluation_html(report)
    for name in ("x.txt", "x", "x.htm", "x.png"):
        with pytest.raises(
            DataError, match=r"report: got .*, expected \.html or \.md.*e\.g\. x\.html"
        ):
            write_report(report, tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["PAGE.HTML", "page.html"]
    assert "Other seeds" in evaluation_text(report)


def positions(svg):
    root = ElementTree.fromstring(svg)
    circles = [float(c.get("cx")) for c in root.iter("circle")]
    return circles, [line for line in root.iter("line")]


def test_dots_lie_where_their_values_are():
    rows = [Dot("a", 0.1, (0.05, 0.2)), Dot("b", 0.2), Dot("c", 0.15)]
    circles, lines = positions(dots(rows, "x"))
    assert circles[2] - circles[0] == pytest.approx(circles[1] - circles[2], abs=0.2)
    whisker = next(line for line in lines if line.get("class") is None)
    assert float(whisker.get("x1")) < circles[0] < float(whisker.get("x2"))
    assert float(whisker.get("x2")) == pytest.approx(circles[1], abs=0.1)
    assert all(270 <= x <= 650 for x in circles)


@pytest.mark.parametrize("values", [(0.0,), (1e-9, 2e-9), (-3.0, 1e6), (0.1, 0.1), (-0.01, -0.005)])
def test_axes_hold_any_values(values):
    svg = dots([Dot(str(value), value) for value in values], "x", are_differences=True)
    circles, lines = positions(svg)
    assert all(270 <= x <= 650 for x in circles)
    assert len([line for line in lines if line.get("class") == "zero"]) == 1
    assert 2 <= len(lines) <= 14


def test_the_command_writes_the_page_of_a_bundle(shop, tmp_path, capsys):
    shop.events.write_csv(tmp_path / "events.csv")
    data = ["--data", str(tmp_path / "events.csv")]
    bundle = str(tmp_path / "walk.shortlist")
    argv = ["train", *data, "--preset", "cooccurrence", "--quiet", "--out", bundle]
    assert main(argv) == 0
    argv = ["evaluate", bundle, *data, "--no-baselines", "--report"]
    capsys.readouterr()
    assert main([*argv, str(tmp_path / "page.pdf")]) == 1
    said = capsys.readouterr()
    assert "page.pdf (.pdf), expected .html or .md" in said.err
    assert "rows of events read" not in said.err  # before any work
    assert main([*argv, str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    parsed(page)
    root = ElementTree.fromstring(page)
    assert root.find("head/title").text == "walk.shortlist on events"
    assert "40 of 40" in capsys.readouterr().out
