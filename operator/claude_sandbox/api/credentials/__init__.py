"""What looks like a credential in a spec that anyone may read. Pure; what measures running workloads uses it too."""
