"""What a filter route costs: ``python benchmarks/filter.py``.

Prints the best of several runs, in microseconds a decision or milliseconds a file.
"""

import tempfile
import timeit
from pathlib import Path

from sipws.tracing.filter import Script, Subject
from sipws.tracing.filter.explain import explain

DOCUMENTED = """
route[ws_filter] {
    if ($si == "1.1.1.1" && $sp == 8000 && $socket_in(ip) == "1.1.1.10" && $socket_in(port) == 5060)
        exit;
    else
        drop;
}
"""
HUNDRED = "route[ws_filter] {" + "".join(f"if ($sp == {n}) drop;\n" for n in range(100)) + "}"
PATTERN = r'route[ws_filter] { if ($si =~ "^1\.1\.1\.[0-9]+$") exit; drop; }'
NETWORK = "route[ws_filter] { if ($si == 1.1.0.0/16) exit; drop; }"
SUBROUTINE = (
    "route[ws_filter] { if (route(within, 8000, 8099)) exit; drop; }"
    "route[within] { if ($sp >= $param(1) && $sp <= $param(2)) return(1); return(-1); }"
)
LOOP = "route[ws_filter] { $var(i) = 0; while ($var(i) < 100) $var(i) += 1; }"
NESTED = "route[ws_filter] { while (1) while (1) $var(i) = 1; }"

CONNECTION = Subject("1.1.1.1", 8000, "1.1.1.10", 5060)


def decision(text: str, number: int = 20_000) -> float:
    """Microseconds a decision."""
    decide = Script.parse(text).decider("ws_filter")
    runs = timeit.repeat("decide(subject)", number=number, repeat=7,
                         globals={"decide": decide, "subject": CONNECTION})  # fmt: skip
    return min(runs) / number * 1e6


def milliseconds(statement: object, repeat: int = 5) -> float:
    """Milliseconds of a call."""
    return min(timeit.repeat(statement, number=1, repeat=repeat)) * 1e3  # type: ignore[arg-type]


def cfg(routes: int) -> str:
    """An opensips.cfg of some thousand lines."""
    body = '    if (!has_totag()) {\n        xlog("$rU at $si\\n");\n        t_relay();\n    }\n'
    other = "".join(f"route[r{n}] {{\n{body * 4}}}\n" for n in range(routes))
    parameters = 'modparam("tm", "fr_timeout", 5)\nloadmodule "tm.so"\n' * 200
    named = 'modparam("proto_ws", "trace_filter_route", "ws_filter")\n'
    return parameters + named + other + DOCUMENTED


def main() -> None:
    """Measure and print."""
    Script.parse(DOCUMENTED)
    rows = [
        ("the documented example", decision(DOCUMENTED), "us", "1.5"),
        ("100 ifs, none of which holds", decision(HUNDRED, 2_000), "us", "15"),
        ("a pattern", decision(PATTERN), "us", ""),
        ("a network", decision(NETWORK), "us", ""),
        ("a subroutine with arguments", decision(SUBROUTINE), "us", ""),
        ("a loop of 100 rounds", decision(LOOP, 500), "us", ""),
        ("loops that are stopped", decision(NESTED, 1) / 1e3, "ms", ""),
        ("parse the documented example", milliseconds(lambda: Script.parse(DOCUMENTED)), "ms", ""),
        ("parse 100 ifs", milliseconds(lambda: Script.parse(HUNDRED)), "ms", ""),
        (
            "explain the documented example",
            milliseconds(lambda: explain(Script.parse(DOCUMENTED), "ws_filter", CONNECTION)),
            "ms",
            "",
        ),
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "opensips.cfg"
        path.write_text(cfg(300))
        lines = path.read_text().count("\n")
        rows.append(
            (f"load an opensips.cfg of {lines} lines", milliseconds(lambda: Script.load(path)),
             "ms", "")
        )  # fmt: skip
    for name, value, unit, most in rows:
        print(f"{name:42} {value:9.2f} {unit}" + (f"   (at most {most})" if most else ""))


if __name__ == "__main__":
    main()
