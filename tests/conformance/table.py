"""The table: every rule of an answer once, and where today's answerers do not keep to it."""

from conformance import (
    rules_features,
    rules_feedback,
    rules_items,
    rules_search,
    rules_sources,
    rules_stages,
)

CASES = [
    *rules_sources.CASES,
    *rules_search.CASES,
    *rules_features.CASES,
    *rules_stages.CASES,
    *rules_items.CASES,
    *rules_feedback.CASES,
]
# (rule, answerer) → why it does not give the answer of the rules; a test says when it does.
KNOWN_GAPS = {
    (
        "a skip takes an item out of the stored history that stands in for an unknown one",
        "python engine",
    ): "with_acts joins the log to the request's history alone where it gives one, so that the "
    "stored one that is used in its place still has the skipped item",
}
