"""The table: every rule of an answer once, and where today's answerers do not keep to it."""

from conformance import (
    rules_features,
    rules_feedback,
    rules_items,
    rules_reasons,
    rules_search,
    rules_sessions,
    rules_sources,
    rules_stages,
    rules_variety,
)

CASES = [
    *rules_sources.CASES,
    *rules_search.CASES,
    *rules_features.CASES,
    *rules_stages.CASES,
    *rules_items.CASES,
    *rules_feedback.CASES,
    *rules_variety.CASES,
    *rules_reasons.CASES,
    *rules_sessions.CASES,
]
# (rule, answerer) → why it does not give the answer of the rules; a test says when it does.
KNOWN_GAPS = {}
