"""Names of hosts that may be connected to through the gateway, as a spec writes them.

What the API server checks here is the form. What needs a list (suffixes below which anybody can have a name) is judged
with the gateway's own rules when the spec is read: `blueprint/egress.py`.
"""

from claude_sandbox.api.rules import Rule, matching, never_matching

_LABEL = "[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
# Not of digits alone: that would be an address.
_LAST = "[a-z](?:[-a-z0-9]*[a-z0-9])?"
_PORT = "(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"

DOMAIN = matching(
    f"(?:\\*\\.)?(?:{_LABEL}\\.)+{_LAST}(?::{_PORT})?",
    "must be a name in lower case, as github.com, *.githubusercontent.com or registry.example.org:8443: no address, no"
    " scheme, no path, a star only for the whole first label and above two more; write an international name in its"
    " ASCII form (xn--…)",
)
HOST = matching(
    f"(?:{_LABEL}\\.)+{_LAST}(?::{_PORT})?",
    "must be a host's name in lower case, as api.example.org or registry.example.org:8443: no address, no scheme, no"
    " path, no star; write an international name in its ASCII form (xn--…)",
)
NOT_LOCAL = never_matching(
    "\\.(?:local|localhost|internal|intranet|lan|home|corp|svc|arpa|onion|test)(?::[0-9]+)?$",
    "must not be a name of a cluster or of a local network: these can't be reached through the gateway",
)
DISTINCT = Rule(
    "self.all(a, self.exists_one(b, a == b))",
    lambda domains: len(set(domains)) == len(domains),
    "lists a name twice: write each once",
)
