"""What a credential is for, as its Secret says in the key `host`: `HOST`, `HOST:PORT` or `HOST/PATH`. Pure.

Who may declare a service or a repository need not be who may read the Secret, and would else have the credential sent
to a server of his own. One rule holds for both. A path matters where what is asked for has one: a repository is
`HOST/PATH`, so that a credential may be for a part of its server; a service is `HOST`, and no credential for a part of
a server is for all of it.
"""

SCOPE_KEY = "host"
"""The key of the Secret."""


def scope_of(text: str) -> str:
    """Of what a person wrote there: as URLs have it, without a scheme, the port that goes without saying, or `.git`."""
    host, slash, path = text.strip().removeprefix("https://").strip("/").partition("/")
    return f"{host.lower().removesuffix(':443')}{slash}{path.removesuffix('.git')}"


def serves(scope: str, at: str) -> bool:
    """Whether a credential that is for `scope` is for what is at `HOST` or `HOST/PATH`."""
    # With the slash behind both: `example.org` is not for `example.org.attacker.net`, nor `host/team` for `host/team2`.
    return bool(scope) and f"{at}/".startswith(f"{scope}/")
