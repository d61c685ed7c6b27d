"""What is measured: evidence in, results out. Pure; nothing here reads, waits or writes.

A control is an entry of its family's module. `pods/` and `containers/` are the evidence of each backend and the views
of it that controls share; `docker_hosts/` has the controls of whole hosts.
"""
