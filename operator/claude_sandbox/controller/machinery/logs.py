"""Logs: one JSON object a line (or text for a terminal), the sandbox in question, and no credential in any of it."""

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, NamedTuple, TextIO

import orjson

from claude_sandbox.api.clip import plain
from claude_sandbox.api.mishap import Told
from claude_sandbox.controller.machinery.redaction import clean, redact, text_of

logger = logging.getLogger(__name__)

Format = Literal["json", "text"]

# Libraries that may bring handlers of their own; ours does their work.
LIBRARIES = ("kopf", "aiohttp", "asyncio", "kubernetes", "urllib3", "py.warnings")

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {
    "message", "asctime", "taskName", "error_type", "redacted", "settings", "k8s_skip", "k8s_ref"
}  # fmt: skip


class Sandbox(NamedTuple):
    """The sandbox that the work at hand is about."""

    namespace: str
    name: str
    uid: str = ""


_sandbox: ContextVar[Sandbox | None] = ContextVar("sandbox", default=None)


@contextmanager
def about(namespace: str, name: str, uid: str = "") -> Iterator[None]:
    """Everything logged inside, also by tasks started inside, names this sandbox."""
    token = _sandbox.set(Sandbox(namespace, name, uid))
    try:
        yield
    finally:
        _sandbox.reset(token)


class RedactingFilter(logging.Filter):
    """Rewrites a record in place, so that whatever handles it afterwards sees no credential either."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Never drops a record."""
        # Each handler has the filter, and all are given the same record.
        if getattr(record, "redacted", False):
            return True
        # The whole message: a credential may be in an argument, or begin in one and end in the format.
        record.msg, record.args = redact(_message(record)), None
        record.name = redact(record.name)
        if record.exc_info:
            kind, error, trace = record.exc_info
            record.error_type = kind.__name__ if kind else ""
            if isinstance(error, Told):
                # It says all there is: when a lease is lost, each of many that work would add a traceback.
                record.msg += "" if str(error) in record.msg else f": {redact(str(error))}"
            else:
                record.exc_text = redact("".join(traceback.format_exception(kind, error, trace)).rstrip())
            # Or a formatter would write the traceback anew, with whatever is in it.
            record.exc_info = None
        elif record.exc_text:
            record.exc_text = redact(record.exc_text)
        if record.stack_info:
            record.stack_info = redact(record.stack_info)
        for key, value in list(vars(record).items()):
            if key not in _STANDARD:
                # As one field of a structure: the name of the field counts as well.
                record.__dict__[key] = clean({key: value})[redact(key)]
        record.redacted = True
        return True


class JsonFormatter(logging.Formatter):
    """`time` (RFC 3339, UTC), `level`, `logger`, `message`, `sandbox`, `error` and whatever `extra` brought."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": plain(record.getMessage()),
        }
        if (sandbox := _sandbox_of(record)) is not None:
            line["sandbox"] = sandbox._asdict()
        if record.exc_text:
            line["error"] = {"type": getattr(record, "error_type", ""), "stack": record.exc_text}
        if record.stack_info:
            line["stack"] = record.stack_info
        for key, value in vars(record).items():
            if key not in _STANDARD:
                # Nothing that `extra` brings replaces the time, the level or the message.
                line.setdefault(key, value)
        return orjson.dumps(line, default=text_of, option=orjson.OPT_NON_STR_KEYS).decode()


class TextFormatter(logging.Formatter):
    """For people: time, level, sandbox, message, and the stack below."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, or more with a stack."""
        sandbox = _sandbox_of(record)
        where = f" {sandbox.namespace}/{sandbox.name}" if sandbox else ""
        extra = "".join(f" {key}={value}" for key, value in vars(record).items() if key not in _STANDARD)
        lines = [f"{_time(record)} {record.levelname:8}{where} {plain(record.getMessage())}{extra} ({record.name})"]
        lines += [text for text in (record.exc_text, record.stack_info) if text]
        return "\n".join(lines)


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, to be told from others; and one that does not print a record that it could not write."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the name is given)
        error = sys.exc_info()[0]
        try:
            name = error.__name__ if error else "error"
            self.stream.write(f'{{"level":"error","message":"a log record could not be written: {name}"}}\n')
        except (OSError, ValueError):
            pass  # nowhere left to say it


def configure(log_format: Format = "json", level: str | int = "INFO", stream: TextIO | None = None) -> None:
    """Send every log of this process, and what it prints when it crashes, through one redacting handler.

    May be called again, with other settings. Raises ValueError for an unknown level.
    """
    handler = _Handler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.setLevel(level)
    for old in root.handlers[:]:
        # Other kinds stay, such as those of tests that look at what is logged; they get the filter below.
        if isinstance(old, _Handler) or type(old) is logging.StreamHandler:
            root.removeHandler(old)
    root.addHandler(handler)
    for name in LIBRARIES:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
    for every in root.handlers:
        if not any(isinstance(f, RedactingFilter) for f in every.filters):
            every.addFilter(RedactingFilter())
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    sys.unraisablehook = _unraisable
    threading.excepthook = _thread_died


def watch_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Log what the event loop would print: errors of tasks that nobody waits for."""
    loop.set_exception_handler(_loop_error)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 (wrong arguments, or one whose text cannot be had)
        arguments = record.args if isinstance(record.args, tuple) else (record.args,)
        return " ".join([text_of(record.msg), *map(text_of, arguments)])


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _sandbox_of(record: logging.LogRecord) -> Sandbox | None:
    reference = getattr(record, "k8s_ref", None)  # kopf's loggers carry the object like this
    if isinstance(reference, dict) and "name" in reference:
        return Sandbox(*(str(reference.get(key) or "") for key in ("namespace", "name", "uid")))
    return _sandbox.get()


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    # Somebody pressed Ctrl-C; a traceback tells them nothing.
    if issubclass(kind, KeyboardInterrupt):
        return
    logger.critical("the process ends because of an error", exc_info=(kind, error, trace))


def _thread_died(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and args.exc_type is not SystemExit:
        name = args.thread.name if args.thread else "?"
        logger.critical("thread %s died", name, exc_info=(args.exc_type, args.exc_value, args.exc_traceback))


def _unraisable(args: "sys.UnraisableHookArgs") -> None:
    error = args.exc_value
    info = (type(error), error, args.exc_traceback) if error is not None else None
    logger.error("%s", args.err_msg or "an error that could not be raised", exc_info=info)


def _loop_error(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    task = context.get("task") or context.get("future")
    name = task.get_name() if isinstance(task, asyncio.Task) else ""
    info = (type(error), error, error.__traceback__) if error is not None else None
    logger.error("%s%s", context.get("message", "error in the event loop"), f" ({name})" if name else "", exc_info=info)
