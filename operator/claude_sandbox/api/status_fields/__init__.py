"""The parts of `ClaudeSandbox.status` that have a module of their own, as `fields` has the spec's."""
