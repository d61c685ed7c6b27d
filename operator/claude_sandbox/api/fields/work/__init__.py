"""What comes into a sandbox and stays in it, as a user asks for it: repositories, services, tools, the workspace."""
