"""The limits of scripts and of decisions, each with its reason.

An operator writes the script, but some of its input comes from the network. The time and memory of
compiling grow about linearly with the length of the script. A decision takes bounded time and keeps
a bounded number of characters for any script.
"""

from typing import Final

# Of a script.

MAX_SCRIPT: Final = 2 * 1024 * 1024
"""Characters of a script with its included files, each counted as often as it is included. A list
of 50,000 addresses has 1.5 million characters. Compiling that many takes some seconds."""

MAX_TOKENS: Final = 400_000
"""Tokens of a script. Each takes some hundred bytes and 10 microseconds to compile."""

MAX_NESTING: Final = 100
"""Levels of nested brackets. OpenSIPS evaluates no deeper expression."""

MAX_DEPTH: Final = 2 * MAX_NESTING + 20
"""Levels of nested statements and conditions. Most come from brackets, but an ``else`` nests
without any. The compiler needs some Python stack frames for each level."""

MAX_VARIABLE_DEPTH: Final = 10
"""Levels of nested variables (``$param($var(i))``). Each level parses the inner ones again."""

MAX_ERRORS: Final = 20
"""Syntax errors reported per route. Later errors are mostly consequences of earlier ones."""

MAX_REPARSED: Final = 100_000
"""Tokens parsed again to find further errors after the first one of a route."""

MAX_FINDINGS: Final = 100
"""Errors reported per script, and as many warnings."""

MAX_COMPARED: Final = 1_000
"""Names compared with a misspelt name. Each comparison takes some microseconds."""

# Of a decision.

MAX_STEPS: Final = 200_000
"""Steps of one decision, about a tenth of a second. Each statement that a loop or a call repeats is
one step. Operations on long texts cost steps by length. Beyond the limit the script is stopped.
Nested loops within the limits of OpenSIPS take it minutes."""

MAX_TEXT: Final = 65_535
"""Characters of a text, as in the buffers of OpenSIPS. A script that makes a longer text is
stopped: ten lines that double a text would exhaust the memory."""

MAX_HELD: Final = 1024 * 1024
"""Characters that a decision keeps: values of ``$avp`` and ``$var``, flags, and ``xlog`` output.
Each value counts `VALUE` characters more."""

VALUE: Final = 64
"""Characters added for each kept value: the memory overhead of a short text."""

SHORT_TEXT: Final = 256
"""Length up to which a text costs no steps. All properties of a connection are shorter, so only
scripts that make long texts pay for counting."""

COPY: Final = 64
"""Characters per step to copy, fold or compare a text."""

CHANGE: Final = 16
"""Characters per step of a transformation."""

LIST_CHANGE: Final = 1
"""Characters per step of a transformation that splits a text into fields, which may be short."""

MAX_WHILE_ROUNDS: Final = 10_000
"""Iterations of one ``while``. Then the script continues after it (OpenSIPS ``max_while_loops``)"""

MAX_ROUTE_DEPTH: Final = 100
"""Levels of nested route calls. A deeper call returns -1 and the script continues (OpenSIPS
``ROUTE_MAX_REC_LEV``)."""

MAX_EXPRESSION_DEPTH: Final = 100
"""Levels of nested conditions. A deeper one is an error (OpenSIPS ``MAX_REC_LEV``)."""

LONGEST_ADDRESS: Final = 64
"""Length up to which a text is tried as an IP address. IPv6 in full and in brackets has 41
characters."""

LONGEST_HOST: Final = 255
"""Characters of a host name (RFC 1035, section 2.3.4)."""


class Exhausted(Exception):  # noqa: N818 - ends a script, and becomes an outcome
    """A script exceeded a limit; the message names it."""


class Enough(Exception):  # noqa: N818 - never leaves the package
    """`MAX_FINDINGS` errors were found, and checking ends."""
