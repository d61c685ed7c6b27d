"""Parts of the documents of containers and volumes: how they are hardened, checked and bounded. Pure."""
