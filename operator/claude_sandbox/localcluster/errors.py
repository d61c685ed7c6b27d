"""The one exception of the local cluster."""


class LocalClusterError(Exception):
    """Something a person has to know or to do before the cluster can work.

    `message` says what is wrong, `remedy` what to do about it; both are full sentences for a terminal.
    """

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message} ({remedy})")
        self.message = message
        self.remedy = remedy
