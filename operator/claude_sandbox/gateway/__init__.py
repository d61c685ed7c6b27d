"""The one way out of a sandbox: a broker that brings the model's credential, and a proxy for destinations by name.

Needs the standard library, aiohttp, the `idna` that comes with it, PyJWT and prometheus_client, and nothing of the rest
of the project. What decides (`destinations`, `http`, `shares`, the models of `config`, a token's verification, …) does
no I/O, which import-linter holds; what does I/O decides nothing. docs/gateway.md says what the whole of it promises.
"""
