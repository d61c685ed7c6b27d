"""The gateway's configuration: a document, read strictly, and followed while it changes. Knows no HTTP."""
