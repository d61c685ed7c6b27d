"""Large files of repositories (Git LFS): named by the server, brought through the gateway."""
