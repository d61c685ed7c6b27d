"""What was measured of many sandboxes, as one document: read from their statuses, written in many formats. Pure.

- `model.py`: a report. `reading.py`: from ClaudeSandboxes to one; the only place that knows a status' layout.
- `entries.py`: what a report says of a control beside its results. `checklists.py`: the guide's lists, line by line.
- `policies.py`: what an organization's policy makes of it. `changes.py`: what is different from an earlier one.
- `formats/`: a module for each format, from a report to text.

Every text in a report that comes from outside is plain: `reading.py` escapes what a terminal would not show as itself.
What else a format has to escape is that format's own business, and it has to take each text for hostile.
"""
