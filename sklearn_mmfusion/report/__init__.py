"""Reports on one HTML page: about data before training, and about a model after it."""

from sklearn_mmfusion.report.data_report import data_report
from sklearn_mmfusion.report.fusion_report import fusion_report

__all__ = ["data_report", "fusion_report"]
