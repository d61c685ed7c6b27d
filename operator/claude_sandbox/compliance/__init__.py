"""What is measured: evidence in, results out. Pure; nothing here reads, waits or writes.

From below, and each knows only what is below it:

- `evidence/`: what was read.
- `verdict.py`, `conventions.py`, `host_files/`: what a control can find; what words and a host's paths mean.
- `pods/`, `containers/`, `docker_hosts/host.py`: views of the evidence, which controls share.
- `control.py`: what a control is. `controls/`: all of them, by family; each is one entry, with how a pod and how a
  container is judged. A whole host's are in `docker_hosts/controls.py`.
- `catalogue.py`: all controls. `reports/`, `docs.py`: findings, a status, and the page made of them.
"""
