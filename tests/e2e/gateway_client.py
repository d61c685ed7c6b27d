"""What is under way by a gateway, run inside of a sandbox: requests that stream, downloads, and one request after
another, each on a connection of its own. Prints one JSON document at the end.

Arguments: how many of each, the name and port to download from, and for how many seconds it is asked after another.
"""

import http.client
import json
import ssl
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

GATEWAY, BROKER, PROXY = "claude-sandbox-gateway", 8443, 3128
TOKEN, AUTHORITY = "/run/claude-sandbox/api-key/api-key", "/run/claude-sandbox/gateway/ca.crt"
QUESTION = {"model": "claude-test-1", "max_tokens": 10, "messages": [{"role": "user", "content": "ping"}]}
MANY, WHERE, SECONDS = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])


def ask(body: dict[str, object], timeout: float) -> http.client.HTTPResponse:
    trusting = ssl.create_default_context(cafile=AUTHORITY)
    asking = http.client.HTTPSConnection(GATEWAY, BROKER, timeout=timeout, context=trusting)
    headers = {"x-api-key": Path(TOKEN).read_text().strip(), "content-type": "application/json"}
    # As it is in JSON that programs write.
    asking.request("POST", "/v1/messages", json.dumps(body, separators=(",", ":")), headers)
    return asking.getresponse()


def load() -> http.client.HTTPResponse:
    asking = http.client.HTTPConnection(GATEWAY, PROXY, timeout=60)
    asking.request("GET", f"http://{WHERE}/", headers={"host": WHERE})
    return asking.getresponse()


def counted(begin: Callable[[], http.client.HTTPResponse], mark: bytes, into: list[int]) -> None:
    """How many parts arrived."""
    data = b""
    try:
        answer = begin()
        while part := answer.read1(65536):
            data += part
    except (OSError, http.client.HTTPException):
        pass
    into.append(data.count(mark))


def main() -> None:
    streamed: list[int] = []
    loaded: list[int] = []
    threads = [
        threading.Thread(target=counted, args=arguments)
        for _ in range(MANY)
        for arguments in (
            (lambda: ask({**QUESTION, "stream": True}, 60), b'"n":', streamed),
            (load, b"line ", loaded),
        )
    ]
    for thread in threads:
        thread.start()
    asked = []
    end = time.time() + SECONDS
    while time.time() < end:
        began = time.time()
        try:
            answer = ask(QUESTION, 5)
            found = json.loads(answer.read()).get("id", "") if answer.status == 200 else str(answer.status)
            fine = answer.status == 200
        except (OSError, http.client.HTTPException, ValueError) as error:
            fine, found = False, type(error).__name__
        asked.append([began, time.time(), fine, found])
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    print(json.dumps({"streamed": streamed, "loaded": loaded, "asked": asked}))


main()
