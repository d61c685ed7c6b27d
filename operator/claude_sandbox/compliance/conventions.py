"""What words and numbers mean on every host, whichever backend it is of."""

FIRST_ORDINARY_GROUP = 1000
"""Where Debian's and Red Hat's useradd begin: below are a system's own groups, such as disk and docker."""
HARDENED_HANDLERS = ("gvisor", "kata", "runsc")
"""How the handlers of gVisor and of Kata Containers begin, as both projects' installation guides name them."""
PLAIN_HANDLERS = ("runc", "crun", "youki")
