"""Tar archives: packed for a sandbox; and read and unpacked without belief in what a sandbox sent."""
