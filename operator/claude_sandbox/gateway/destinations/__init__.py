"""Which names and addresses a sandbox may reach. Pure: nothing here resolves or connects."""
