"""What can be reached from a sandbox's own place in the network, tried by a program that the sandbox can't touch.

A probe is a container of the operator's own image that joins the network of the sandbox's container
(`--network container:ID`) for a second or two: the very interfaces, routes and filters that the agent has, and nothing
else of it. It has its own processes, files, user, limits and control group, so the agent can neither forge what it
says, nor starve it; it has no capability, no mount, no secret, listens on nothing but its own loopback port for a
moment, and is on no network that the sandbox is not on, so it weakens nothing.

It is confined as the sandbox's container is, as the engine tells that now, and makes dangerous system calls: what the
kernel says to them it says of the sandbox, too. It is never privileged and has no device, whatever the sandbox has.

What was decided against. A process in the sandbox's container (`docker exec`) runs the agent's programs and libraries,
among its processes and within its limits, and says what the agent wants. Another container on the same network has
another address and other routes. Entering the network from the host takes root on the host, and works on no other
machine.

What the agent can do: see the connections in /proc/net, and take free ports, which makes a probe prove nothing
(Unknown). Its network can't be changed by it. What a probe can't see: what the network would carry at another time,
rules of the host that look at the user or the control group of a process, and a program that waits for packets at
another place.

`targets` says what is tried, `container` by what, `report` what its answer means (all pure); `running` tries once,
`probes` when.
"""
