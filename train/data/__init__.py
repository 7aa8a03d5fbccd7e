"""Data sets of text lines behind one small interface: CTR, Real-CE, pairs of one's own, pools and the renderer."""

from train.data.dataset import JoinedDataset, SourceDataset, records, sound
from train.data.records import BrokenRecord, Dataset, Drop, Line, Reason, Report
from train.data.selection import Filters, part_of
from train.data.spec import HELP, DataSpec, open_data

__all__ = [
    "HELP",
    "BrokenRecord",
    "DataSpec",
    "Dataset",
    "Drop",
    "Filters",
    "JoinedDataset",
    "Line",
    "Reason",
    "Report",
    "SourceDataset",
    "open_data",
    "part_of",
    "records",
    "sound",
]
