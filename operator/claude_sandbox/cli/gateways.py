"""The option `--gateway-settings`: what an administrator says for the gateways of all sandboxes, from a file."""

from pathlib import Path
from typing import Any

import click

from claude_sandbox.backends.docker.gateway.settings import GatewaySettingsError, gateway_settings

_LONGEST = 1 << 20
"""Characters of a bundle with all that stands between its certificates."""


def gateway_settings_file(_ctx: click.Context, _param: click.Parameter, value: str | None) -> dict[str, Any] | None:
    """The file's sections; None where the option was not given. Raises click.BadParameter for a file that is wrong.

    A file that it names is looked for beside it, where the name does not begin with a slash.
    """
    if not value:
        return None

    def read(named: str) -> str:
        with (Path(value).parent / named).open(encoding="utf-8", errors="replace") as file:
            return file.read(_LONGEST)

    try:
        return gateway_settings(Path(value).read_text(encoding="utf-8"), read)
    except (OSError, UnicodeDecodeError) as error:
        named = getattr(error, "filename", None) or value
        raise click.BadParameter(f"{named} can't be read ({type(error).__name__})") from None
    except GatewaySettingsError as error:
        raise click.BadParameter(f"{value}: {error}") from None
