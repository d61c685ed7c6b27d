"""The one way out of a sandbox: a broker that brings the model's credential, and a proxy for destinations by name.

Needs the standard library, aiohttp and the `idna` that comes with it, and nothing of the rest of the project. What
decides (`names`, `domains`, `addresses`, `clienthello`, `httphead`, `jsonscan`, `usage`, `prices`, `ledger`, `shares`,
`config`) does no I/O; what does (`dial`, `tunnel`, `proxy`, `broker`, `follow`, `ledger_store`, `audit`) decides
nothing. docs/gateway.md says what the whole of it promises.
"""
