"""A verifier of the trail that knows docs/audit.md and nothing of the code that writes it."""

import hashlib
import json
import re
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

HEX64, HEX128 = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{128}")


def is_genuine(directory: Path, public_key: str) -> bool:
    """Whether everything up to the last checkpoint is what was written, of a trail of which nothing was retired yet."""
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
    previous, seq, log = "0" * 64, 0, None
    files = sorted(directory.glob("segment-*.jsonl"))
    for segment, file in enumerate(files, 1):
        if file.name != f"segment-{segment:010}.jsonl":
            return False
        lines = file.read_bytes().split(b"\n")
        vouched = _last_checkpoint(lines)
        if file == files[-1]:
            lines = lines[: vouched + 1]
        elif lines.pop() != b"" or vouched != len(lines) - 1:
            return False
        for index, line in enumerate(lines):
            try:
                record = json.loads(line)
            except ValueError:
                return False
            seq += 1
            if (record["trail"], record["seq"], record["prev"]) != (1, seq, previous):
                return False
            if (record["kind"] == "Segment") != (index == 0):
                return False
            if index == 0:
                log = log or record["data"]["log"]
                if (record["data"]["log"], record["data"]["segment"]) != (log, segment):
                    return False
            if record["kind"] == "Checkpoint" and not _is_signed(key, public_key, record, line, log, segment):
                return False
            previous = hashlib.sha256(line).hexdigest()
    return bool(files)


def _last_checkpoint(lines: list[bytes]) -> int:
    return max((index for index, line in enumerate(lines) if b'"kind":"Checkpoint"' in line), default=-1)


def _is_signed(
    key: Ed25519PublicKey, public_key: str, record: dict, line: bytes, log: str | None, segment: int
) -> bool:
    data = record["data"]
    place = {"log": log, "segment": segment, "key": public_key, "signature": data["signature"]}
    only = {"trail": 1, "seq": record["seq"], "time": record["time"], "kind": "Checkpoint", "data": place}
    if line != json.dumps(only | {"prev": record["prev"]}, separators=(",", ":")).encode():
        return False
    if not HEX128.fullmatch(data["signature"]):
        return False
    parts = ("claude-sandbox-trail", 1, log, segment, record["seq"], record["time"], record["prev"])
    try:
        key.verify(bytes.fromhex(data["signature"]), "".join(f"{part}\n" for part in parts).encode())
    except InvalidSignature:
        return False
    return True
