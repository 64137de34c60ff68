"""A loaded bundle and what a call does with it; swaps and trials."""
