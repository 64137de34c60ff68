"""Latency and throughput of a bundle on this machine: `shortlist bench`."""

from shortlist.bench.measure import BenchResult, bench_bundle
from shortlist.bench.report import format_markdown, plot

__all__ = ["BenchResult", "bench_bundle", "format_markdown", "plot"]
