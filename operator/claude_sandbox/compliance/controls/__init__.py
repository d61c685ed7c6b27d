"""What is demanded, by family: each control is one entry, with how a pod and how a container is judged. Pure.

What several families judge by, or is longer than its entry, is in `judges/`.
"""
