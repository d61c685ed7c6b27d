"""Backups of workspaces on one Docker host: what makes them (`helpers`), and its way to a server elsewhere (`way`)."""
