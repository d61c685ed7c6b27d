"""What probing has in common on every backend: what a target is, when sandboxes are probed, what answers the operator.

How a probe runs, and from where, is each backend's own (`backends/docker/probing`, `backends/kubernetes/probing`).

Modules: `wanted` a target (pure); `schedule` when; `here` what takes a connection of the operator's own.
"""
