"""Whole jobs: train, update, tune, replay, demo."""
