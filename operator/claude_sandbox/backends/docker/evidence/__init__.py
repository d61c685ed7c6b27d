"""What is known of a sandbox's container, gathered in the terms in which compliance is judged."""
