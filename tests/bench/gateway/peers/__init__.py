"""Well-known proxies beside the gateway, each with the usual configuration of its documentation. They are fetched when
asked for, into the cache, and nothing is installed on the machine."""
