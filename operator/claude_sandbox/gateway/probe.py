"""`python -m claude_sandbox.gateway.probe`: what the gateway in this container says of itself.

For the health check of a container, whose engine keeps what it prints: the page `/readyz?report`, in one line, of which
the operator makes a part of the sandbox's status. The exit code is 0 where the gateway takes requests. Standard library
only, since it starts anew each time.
"""

import http.client
import sys

PORT = 8081
"""Of the third listener, which only the container itself can reach."""
_TIMEOUT = 4.0
"""Seconds. Less than the kubelet gives a check (5), so that why it fails is printed."""
_MOST = 4000
"""Bytes; an engine keeps 4096."""


def main(port: int = PORT) -> int:
    """Ask, print, and give the exit code."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)
    try:
        connection.request("GET", "/readyz?report")
        answer = connection.getresponse()
        print(answer.read(_MOST).decode(errors="replace"), flush=True)
    except (OSError, http.client.HTTPException) as error:
        print(f"no answer: {type(error).__name__}", flush=True)
        return 1
    finally:
        connection.close()
    return 0 if answer.status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main())
