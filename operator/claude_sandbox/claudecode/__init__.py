"""What Claude Code's program knows that could lead it astray, and what is decided about each: pinned or waived.

Standard library only, and no I/O: the blueprint takes the pins from here, the image's build the review.
"""
