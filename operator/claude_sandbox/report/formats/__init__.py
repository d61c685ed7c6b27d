"""Reports as text: a module for each format, each with `written(report)`. Pure, and the same for the same report.

Every text of a report may be a hostile one.
"""
