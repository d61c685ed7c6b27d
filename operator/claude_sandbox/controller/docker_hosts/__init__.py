"""Looking after DockerHosts: asked, reported, drained."""
