"""How an EmptyDir outlives the container that has it: a volume in memory, held by a container that does nothing.

A volume in memory is mounted by the engine with the first container that has it, and is gone with the last. So beside a
sandbox whose workspace is an EmptyDir stands its holder, as a pod's pause container does: while that runs, the files
are there, however often the sandbox's own container ends. It goes with a suspension or the sandbox, and the files go
with it.
"""
