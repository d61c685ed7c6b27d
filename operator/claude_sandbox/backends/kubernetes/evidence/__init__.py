"""What is known of a sandbox's pod, gathered in the terms in which compliance is judged."""
