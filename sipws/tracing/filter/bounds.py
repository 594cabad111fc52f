"""The bounds of scripts and of decisions, each with its reason.

A script comes from an operator, and what it decides about partly from the network. Compiling one
takes time and memory about in proportion to its length; a decision takes a bounded time and holds
a bounded number of characters, whatever the script does.
"""

from typing import Final

# Of a script.

MAX_SCRIPT: Final = 2 * 1024 * 1024
"""Characters of a script, with the files that it includes, each as often as it is included. A list
of 50,000 addresses has 1.5 million; to compile so much takes some seconds."""

MAX_TOKENS: Final = 400_000
"""Words and signs of a script. Each costs some hundred bytes and 10 microseconds to compile."""

MAX_NESTING: Final = 100
"""Brackets within brackets; OpenSIPS evaluates no expression that is deeper."""

MAX_DEPTH: Final = 2 * MAX_NESTING + 20
"""Statements and conditions within each other. Brackets are most of it, but an ``else`` nests
without any. The compiler takes some calls of Python for each."""

MAX_VARIABLE_DEPTH: Final = 10
"""Variables within variables (``$param($var(i))``). Each level reads what is within it again."""

MAX_ERRORS: Final = 20
"""Syntax errors that are looked for in a route; what follows so many is mostly their echo."""

MAX_REPARSED: Final = 100_000
"""Words that are read again to look for more errors than the first one of a route."""

MAX_FINDINGS: Final = 100
"""Errors, and as many warnings, that are reported of a script; nobody reads more at a time."""

MAX_COMPARED: Final = 1_000
"""Names that a misspelt one is compared with. Comparing takes some microseconds for each."""

# Of a decision.

MAX_STEPS: Final = 200_000
"""Steps of one decision; a tenth of a second or so. A statement that a loop or a call repeats is
one; what works on long texts is charged by their length. Rounds within rounds are within OpenSIPS'
bounds and yet take it minutes: here the script is stopped."""

MAX_TEXT: Final = 65_535
"""Characters of a text; OpenSIPS' own buffers end there. A script that makes a longer one is
stopped: ten lines that double a text would fill the memory."""

MAX_HELD: Final = 1024 * 1024
"""Characters of all that a decision keeps: the values of ``$avp`` and ``$var``, flags, and what
``xlog`` writes. Each value counts `VALUE` characters more."""

VALUE: Final = 64
"""What a value that is kept counts beside its characters: the memory of a short text."""

SHORT_TEXT: Final = 256
"""Characters of a text that costs no steps of its own. All that a connection says of itself is
shorter, so that only scripts that make long texts pay for counting."""

COPY: Final = 64
"""Characters a step where a text is only copied, folded or compared."""

CHANGE: Final = 16
"""Characters a step of a transformation."""

LIST_CHANGE: Final = 1
"""Characters a step of a transformation that cuts a text into fields, of one character perhaps."""

MAX_WHILE_ROUNDS: Final = 10_000
"""Rounds of one ``while``; then the script goes on behind it (OpenSIPS ``max_while_loops``)."""

MAX_ROUTE_DEPTH: Final = 100
"""Routes within routes; a call beyond returns -1 and the script goes on (``ROUTE_MAX_REC_LEV``)."""

MAX_EXPRESSION_DEPTH: Final = 100
"""Conditions within conditions; one that is deeper is an error (``MAX_REC_LEV``)."""

LONGEST_ADDRESS: Final = 64
"""Characters of a text that may be an IP address; IPv6 in full and in brackets has 41."""

LONGEST_HOST: Final = 255
"""Characters of a host name (RFC 1035, section 2.3.4)."""


class Exhausted(Exception):  # noqa: N818 - ends a script, and becomes an outcome
    """A script went beyond its bounds; the text says which."""


class Enough(Exception):  # noqa: N818 - never leaves the package
    """`MAX_FINDINGS` errors were found: looking for more is of no use."""
