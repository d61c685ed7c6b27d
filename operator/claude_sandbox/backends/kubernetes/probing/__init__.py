"""What can be reached from a sandbox's place in the cluster's network, tried by a pod that is a twin to the network.

A probe is a pod of the operator's own image beside the sandbox's: with its labels, all of them and no other, its
ServiceAccount, its namespace, its node and its RuntimeClass, by which policies and network plugins choose. It lives
for some seconds. It mounts nothing, has no token, is never Ready, so that no Service sends it anything, and is confined
as a sandbox is, so it weakens nothing. The agent can neither see nor reach it.

What was decided against. A process in the sandbox's pod (`exec`) runs the agent's programs among its processes, and
says what the agent wants. An ephemeral container has the very network of the pod, and can't be removed: it would stay
in the pod, change what the pod is (control OPS-04 fails on one), and take a right over every pod. Entering the network
from the node takes root there.

So what is proven is of a twin. What could tell the two apart: a policy by name or address of a pod, which
NetworkPolicies have no way to say; annotations, of which those that choose a pod's networks have to be equal; and a
plug-in that is behind with one of them. Labels can't: they are compared before and after.

It makes dangerous system calls, too, and what the kernel says to them it says of the sandbox, where both are confined
alike. It is never made less confined because a pod in a tenant's namespace is.

A tenant may make pods that look like one, change one, or run commands in one. Nothing is believed but of the pod whose
UID the operator's own create was answered with, whose spec and labels are what that answer said, which was never
restarted or changed, and whose exit code says the same as its message (`claude_sandbox/probe/pod.py`).

`targets` says what is tried, `pod` by what, `report` what its end means (all pure); `cluster` finds the addresses of
the cluster's own; `controls` what answers where nothing is denied; `running` tries once, `probes` whom.
"""
