"""Train, valid and test parts without leakage; weights of events."""
