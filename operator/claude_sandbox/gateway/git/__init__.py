"""Git's smart protocol: fetches and pushes of one repository, with the credential that the sandbox doesn't have.

What decides on a push reads bytes and does no I/O; only `forwarder` does. Not yet called by the gateway: no sandbox can
declare a repository so far.
"""
