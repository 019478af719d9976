"""`fieldguide report`: writes a run's report again, from the files in the run."""

from fieldguide.report.write import report

__all__ = ["report"]
