"""The Docker hosts: which there are, what each can take, where a sandbox goes, and the backend of each."""
