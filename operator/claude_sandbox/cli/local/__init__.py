"""Commands for what one makes on this machine: clusters, engines, images."""
