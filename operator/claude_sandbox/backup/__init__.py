"""The program in the helper that backs up a workspace, verifies the backup by restoring it, and restores one.

It runs in a container of its own, with the workspace read-only and room for a restored copy: without a network where
the repository is in a directory or a volume, else with one that leads to its server alone. Standard library only, and
the programs restic and git. `job` is the order of things, `tree` what is in a directory, `looks` what is touched in it
meanwhile, `known` what need not be read again, `gate` what restic waits for, `compare` whether two are the same,
`repositories` and `sessions` whether what was restored is of use, `restic` the repository of backups, `elsewhere` one
on a server, `loopback` what leads restic there, `progress` how far all of it is.

What is read was written by the agent, which changes it meanwhile: no link is followed, no name is trusted.
"""

VERSION = 1
TOLD = "told"
"""The line that it writes when it has read what it is told by its standard input."""
SOURCE = "/source"
"""Workspace and home are below it, as `workspace` and `home`; a restored workspace is filled at RESTORED + SOURCE."""
RESTORED = "/restored"
REPOSITORY = "/repository"
SCRATCH = "/transient"
"""Its name comes after SOURCE's: restic comes to it last, and to the list in it."""
SCRATCH_BEFORE = "/scratch"
"""As older snapshots have it."""
LARGEST_RESULT = 3500
"""Bytes of the result: Kubernetes keeps 4096 of what a container says at its end."""
