"""What is known of a container on a Docker Engine, looked at for judging. Pure; the controls are elsewhere."""
