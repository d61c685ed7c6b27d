"""What is known of a pod and its surroundings, looked at for judging: what several controls share. Pure."""
