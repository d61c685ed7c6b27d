"""What is known of a pod and its surroundings, looked at for judging. Pure; the controls are elsewhere."""
