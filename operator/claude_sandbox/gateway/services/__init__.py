"""Other services that a sandbox may use: asked for as `http://NAME.services/…` by the proxy, which adds the credential
that the sandbox doesn't have, and holds to paths and methods."""
