"""A small demonstration lake with a truth that is known before the lake is written."""

from r2d2.sample.folder import MARKER, SampleTruth, write_sample
from r2d2.sample.plan import SampleTable
from r2d2.sample.tables import sample_tables
from r2d2.sample.truth import TruthEdge

__all__ = ["MARKER", "SampleTable", "SampleTruth", "TruthEdge", "sample_tables", "write_sample"]
