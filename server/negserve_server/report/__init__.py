"""The false-negative report: how often an unfiltered negative is a known triple. Draws nothing."""

from negserve.terminal.extras import needing

with needing("negserve_server.report", "negserve[server]"):
    from negserve_server.report.false_negatives import FalseNegativeReport, false_negative_report

__all__ = ["FalseNegativeReport", "false_negative_report"]
