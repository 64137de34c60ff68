"""Off-policy estimates: what a bundle would have earned, from what another one showed."""

from shortlist.off_policy.estimates import (
    Estimate,
    OffPolicy,
    doubly_robust,
    estimate,
    ips,
    snips,
)

__all__ = ["Estimate", "OffPolicy", "doubly_robust", "estimate", "ips", "snips"]
