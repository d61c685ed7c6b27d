"""The control plane and the operator on one Docker machine for good: units of systemd, backups, and gone again."""
