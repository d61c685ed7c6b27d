"""A Kubernetes-style operator that runs Claude Code agents in hardened sandboxes and measures them.

Each package below opens with what lives there and what may not; docs/architecture.md has the picture of all.
"""
