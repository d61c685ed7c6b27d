"""A report as one page of HTML, for auditors: whole in one file, and it loads nothing.

- `markup.py`: elements, which escape what they hold; nothing else here writes a `<`.
- `page.py`: the page, with `page.css` and `page.js` in it, and the policy that lets nothing else run.
- `sections.py`: its parts. `heatmap.py`: the controls by sandbox, and what the script shows of a cell.
"""
