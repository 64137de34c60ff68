"""Several parties train one model: a signed plan, masked sums, messages, and a place for them.

Nothing here sees an event. `shortlist.training.pipeline.federation` counts, trains and judges.
"""
