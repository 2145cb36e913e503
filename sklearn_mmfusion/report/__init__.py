"""Reports in one HTML page: of data before training, and of a model's evidence after it."""

from sklearn_mmfusion.report.data_report import data_report
from sklearn_mmfusion.report.fusion_report import fusion_report

__all__ = ["data_report", "fusion_report"]
