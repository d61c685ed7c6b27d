"""The Docker backend.

On top the loop, named as in `backends/kubernetes/`: objects, observe, plan, apply, drift, removal, state. Rooms below:
`steps/` does what a plan says, for each kind of object; `engine/` speaks with one engine, and nothing else imports
`docker`; `hosts/` knows which hosts there are; `events/` what an engine tells by itself; `images/`, `keys/` and
`relay/` one thing each that a sandbox needs; `evidence/` what compliance is told.
"""
