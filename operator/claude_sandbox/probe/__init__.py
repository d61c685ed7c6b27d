"""Tries to connect from where it is, and what the kernel lets it do, and says what came of it: what runs for a moment
in a sandbox's network, as confined as the sandbox.

It judges nothing: whether an outcome is what should be, is decided by who reads the report. Needs nothing but the
standard library, and nothing of the rest of the project.

Modules: `outcomes` what an attempt can come to, and messages of DNS (pure); `attempts` the attempts themselves;
`trying` one system call; `kernel` dangerous ones; `strict` those that the Strict filter alone refuses;
`__main__` the program on Docker, `pod` that on Kubernetes.
"""

VERSION = 4
"""Of the report. One of another version is not understood."""
MOST_TARGETS = 64
LARGEST = 64 << 10
"""Bytes of the line with the targets, and of the report."""
