"""What the kernel says of the processes of one pod on this node: what runs, by an administrator's wish, on each node.

It is a witness, so it judges nothing, knows nothing of sandboxes, asks nobody, and changes nothing. Needs nothing but
the standard library, and nothing of the rest of the project but how files of the kernel's are read.
"""

VERSION = 1
"""Of the answers."""
PORT = 8444
NAME = "claude-sandbox-node-agent"
"""By which whoever asks knows it: all nodes' agents are one."""
QUESTION = 64
"""Bytes of a question, at most: EVIDENCE and a number of bytes, or neither; the UID of a pod; the end of the line."""
EVIDENCE = "evidence"
"""Asks for what an investigation wants to know of a pod that is about to be ended, in so many bytes."""
LARGEST = 4 << 20
"""Bytes of an answer, at most."""
MOST_CONTAINERS = 64
MOST_PROCESSES = 8192
"""Of one pod, that are looked at: more than a node lets a pod have, by far."""
MOST_NETWORKS = 16
"""Of one pod, that are told as evidence."""
MOST_KINDS = 64
"""Different processes of one container that are told; of more, that there are more."""
