"""The ways into a sandbox: by a pod, by a container of an engine at hand, by the channel of the operator."""
