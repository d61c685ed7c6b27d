"""Reports of sandboxes as objects that viewers of policies show, in clusters that serve such kinds."""
