"""The Kubernetes backend.

On top the loop, named as in `backends/docker/`: objects, plan, apply, drift, state. Rooms below: `watches/` follows
everything that decides about a sandbox, `evidence/` gathers what compliance is told. The API server's client is
`claude_sandbox.kubernetes_api`.
"""
