"""Smaller graphs and tables of a finished bundle: what `shortlist compress` writes.

A bundle's encoder is part of three graphs, and a reranker's tables of three. Each step here changes
one of them and puts the very same change into the others, so that all go on answering alike.
"""
