"""A real Kubernetes, and a real Docker Engine, for a machine that has none. Knows nothing of the rest of the product.

Here: a cluster from nothing to Ready, kept alive, and gone without a trace. `node/` adds a kubelet, `engine/` a Docker
Engine, `programs/` builds what they run, `pki/` says who trusts whom, `images/` builds the project's own images.
"""
