"""What is asked of the API server besides the path: selectors, and what guards and marks a write. Pure."""

from collections.abc import Mapping
from urllib.parse import urlencode


def selectors(label_selector: str | None, field_selector: str | None) -> dict[str, str]:
    """The parameters of a list or a watch that say of which objects."""
    query = {}
    if label_selector:
        query["labelSelector"] = label_selector
    if field_selector:
        query["fieldSelector"] = field_selector
    return query


def query(parameters: Mapping[str, str]) -> str:
    """Parameters as a path ends with them; nothing where there are none."""
    return "?" + urlencode(parameters) if parameters else ""


def write_query(field_manager: str, dry_run: bool) -> str:
    """Whose the written fields are, and whether it is only tried."""
    return f"?fieldManager={field_manager}" + ("&dryRun=All" if dry_run else "")


def preconditions(uid: str | None, resource_version: str | None) -> dict[str, str]:
    """Which object is meant, as metadata or as options of a deletion have it; empty for whichever is there."""
    result = {}
    if uid is not None:
        result["uid"] = uid
    if resource_version is not None:
        result["resourceVersion"] = resource_version
    return result
