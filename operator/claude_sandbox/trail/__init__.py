"""The audit trail: what happened to sandboxes, one line each, so that who changes it afterwards is found out.

Lines are chained by their hashes and signed now and then (`records`, `chain`), kept in segments (`segments`, `store`)
by a thread of their own (`writer`), copied elsewhere (`exports`), and verified by anybody with the public key
(`checker`, `verification`). The format is docs/audit.md. It knows nothing of sandboxes, the API server, or the rest of
the program: what is recorded is chosen, and redacted, in `controller/trail`.
"""
