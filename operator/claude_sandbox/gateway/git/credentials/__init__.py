"""What a git server is shown: tokens, user and password, and what a GitHub App is given for one repository."""
