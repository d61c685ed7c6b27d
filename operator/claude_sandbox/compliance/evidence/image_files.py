"""What a container's own files are beside plain ones: those of its image and of /dev, and of nothing that is mounted
else."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ImageFiles:
    """Paths in the container: some of each, in their order, and how many there are.

    `privileged`: programs that run as their file's user or group, or with capabilities of the file's. `devices`: but
    for those that every container has, with their numbers. `whole`: whether all was looked at.
    """

    privileged: tuple[str, ...] = ()
    privileged_count: int = 0
    devices: tuple[str, ...] = ()
    device_count: int = 0
    whole: bool = True
