"""The feedback log: what was shown, and what came of it; a file beside the bundle."""

from shortlist.feedback.log import IMPRESSION, FeedbackLog, seconds_of

__all__ = ["IMPRESSION", "FeedbackLog", "seconds_of"]
