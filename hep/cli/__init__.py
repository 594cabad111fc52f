"""The command ``hep``: listen, decode, send, replay, doctor.

This package may import every package of `hep`. No package of `hep` imports it.
"""

import sys

_hep = sys.modules["hep"]
if getattr(_hep, "__distribution__", None) != "sipws":
    # Another distribution has a package of this name; `sipws.own_hep` checks it for sipws.
    _place = _hep.__file__ or next(iter(_hep.__path__), "an unknown place")
    print(
        f"hep: the package hep in {_place} is not that of sipws; remove the other one and install"
        " sipws again: pip uninstall hep; pip install --force-reinstall --no-deps sipws",
        file=sys.stderr,
    )
    raise SystemExit(2)
