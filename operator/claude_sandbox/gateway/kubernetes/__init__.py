"""The gateway on Kubernetes: sandboxes, credentials and identities as the cluster's API server tells them."""
