"""Compose files and Kubernetes manifests, judged by the controls before they run. Pure: text in, findings out."""
