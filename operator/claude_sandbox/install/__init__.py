"""What the demo and the installation on one machine both need: manifests applied, kubectl, an image onto an engine."""
