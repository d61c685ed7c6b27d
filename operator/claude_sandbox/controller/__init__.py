"""When: one operator process. It is put together here (`main`, `operator`, `settings`).

`sandboxes/` looks after ClaudeSandboxes, `docker_hosts/` after DockerHosts, both with `machinery/`, which knows
neither; `metrics/` is what Prometheus sees.
"""
