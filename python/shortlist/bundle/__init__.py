"""The bundle: one folder (or zip) of graphs, index and tables; a manifest vouches for them."""

from shortlist.bundle.manifest import FORMAT_VERSION
from shortlist.bundle.opened import Bundle
from shortlist.bundle.writer import BundleWriter, check_target

__all__ = ["FORMAT_VERSION", "Bundle", "BundleWriter", "check_target"]
