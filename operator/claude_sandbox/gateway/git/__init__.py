"""Git's smart protocol: fetches and pushes of one repository, with the credential that the sandbox doesn't have.

What decides on a push reads bytes and does no I/O; `service`, `forwarder` and `upstream` do. Repositories are
declared in a ClaudeSandbox's `spec.repositories`, or in the program's own configuration.
"""
