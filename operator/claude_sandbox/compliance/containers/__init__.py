"""What is known of a container on a Docker Engine, looked at for judging: what several controls share. Pure."""
