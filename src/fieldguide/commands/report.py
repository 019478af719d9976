"""`fieldguide report`: a run's page, made again from what the run keeps."""

from fieldguide.report.write import report

__all__ = ["report"]
