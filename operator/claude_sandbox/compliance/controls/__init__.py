"""What is demanded, by family: each control is one entry, with how a pod and how a container is judged. Pure."""
