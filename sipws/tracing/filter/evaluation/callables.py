"""Filters written in Python."""

import importlib
from collections.abc import Callable
from typing import Any

from sipws.errors import ConfigurationError


def load_callable(path: str) -> Callable[[Any], bool]:
    """Import a filter function: ``def ws_filter(connection) -> bool``.

    The tracer calls it once per connection with the connection. A true result traces it.

    Args:
        path: ``module:function``; the function may be an attribute of something in the module
            (``module:filters.office``).

    Raises:
        ConfigurationError: it cannot be imported, or is nothing that can be called.
    """
    module_name, colon, names = path.partition(":")
    if not colon or not module_name or not names:
        raise ConfigurationError(
            f"filter {path!r}: a filter in Python is written MODULE:FUNCTION, as in"
            " 'filters:ws_filter'"
        )
    try:
        found: Any = importlib.import_module(module_name)
    except (ImportError, TypeError, ValueError) as exc:
        raise ConfigurationError(
            f"filter {path!r}: the module {module_name!r} cannot be imported ({exc}); is it on"
            " PYTHONPATH?"
        ) from exc
    for name in names.split("."):
        if not hasattr(found, name):
            raise ConfigurationError(f"filter {path!r}: there is no {name!r} in it")
        found = getattr(found, name)
    if not callable(found):
        raise ConfigurationError(f"filter {path!r}: {names!r} is nothing that can be called")
    result: Callable[[Any], bool] = found
    return result
