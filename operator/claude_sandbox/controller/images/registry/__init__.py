"""Asking registries: the distribution API's part that tells of tags, manifests and signatures. Nothing is written."""
