"""The TextMate grammar in docs/editors knows the words of the language."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sipws.tracing.filter.evaluation.functions import PARAMETERS, WITHOUT_EFFECT
from sipws.tracing.filter.syntax.lexer import CONSTANTS, KEYWORDS
from sipws.tracing.filter.syntax.toplevel import OTHER_ROUTES

FOLDER = Path(__file__).parents[3] / "docs" / "editors" / "opensips"
GRAMMAR: dict[str, Any] = json.loads((FOLDER / "syntaxes" / "opensips.tmLanguage.json").read_text())


def scopes(text: str) -> list[tuple[str, str]]:
    """The marked parts of a text with their scopes, as an editor finds them."""
    found: list[tuple[str, str]] = []
    # Each level: the rules within it, the pattern that ends it, its scope.
    levels: list[tuple[list[Any], str | None, str]] = [(GRAMMAR["patterns"], None, "")]
    at = 0
    while at <= len(text):
        rules, end, scope = levels[-1]
        best = re.compile(end, re.MULTILINE).search(text, at) if end else None
        rule: dict[str, Any] | None = None
        for each in flat(rules):
            match = re.compile(each.get("match") or each["begin"], re.MULTILINE).search(text, at)
            if match and match[0] and (best is None or match.start() < best.start()):
                best, rule = match, each
        if best is None:
            break
        if levels[-1][2] and text[at : best.start()]:
            found.append((text[at : best.start()], scope))
        if rule is None:
            found.append((best[0], scope))
            levels.pop()
        else:
            name = rule.get("name", scope)
            groups = rule.get("captures") or rule.get("beginCaptures") or {}
            marked = [(best[int(n)], it["name"]) for n, it in groups.items() if best[int(n)]]
            found += marked or [(best[0], name)]
            if "begin" in rule:
                levels.append((rule.get("patterns", []), rule["end"], name))
        at = best.end()
    return [(part, scope.removesuffix(".opensips")) for part, scope in found if scope]


def flat(rules: list[Any]) -> list[Any]:
    out: list[Any] = []
    for rule in rules:
        if "include" in rule:
            name = rule["include"][1:]
            inner = GRAMMAR["repository"][name]
            out += flat(inner["patterns"]) if "begin" not in inner else [inner]
        else:
            out.append(rule)
    return out


@pytest.mark.parametrize(
    ("text", "part", "scope"),
    [
        ("route[ws_filter] { drop; }", "ws_filter", "entity.name.function"),
        ("route[ws_filter] { drop; }", "drop", "keyword.control"),
        ("event_route[E_X] {", "event_route", "storage.type.route"),
        ("startup_route {", "startup_route", "storage.type.route"),
        ("if (route(office)) exit;", "office", "entity.name.function"),
        ("if ($si == 10.0.0.0/8) drop;", "10.0.0.0/8", "constant.other.address"),
        ("if ($si == 2001:db8::/32) drop;", "2001:db8::/32", "constant.other.address"),
        ("if ($si == ::1) drop;", "::1", "constant.other.address"),
        ("if ($sp >= 0x1F) drop;", "0x1F", "constant.numeric"),
        ("if ($sp >= 0x1F) drop;", ">=", "keyword.operator.comparison"),
        ('if ($si =~ "^1\\.2") drop;', "\\.", "constant.character.escape.regexp"),
        ('if ($si != "a\\n") drop;', "\\n", "constant.character.escape"),
        ('xlog("seen $si\\n");', "$si", "variable.other"),
        ("$var(x) = $(si{s.select,-1,.}{s.int});", "s.select", "support.function.transformation"),
        ("$var(x) = $(si{s.select,-1,.}{s.int});", "s.int", "support.function.transformation"),
        ("$var(x) += 1;", "+=", "keyword.operator.assignment"),
        ('if (is_myself("$si") and not $sp) drop;', "is_myself", "support.function.core"),
        ('if (is_myself("$si") and not $sp) drop;', "not", "keyword.operator.word"),
        ("/* a /* b */ c */ drop;", "drop", "keyword.control"),
        ("# drop;", "# drop;", "comment.line.number-sign"),
        ("if ($x) # why\n drop;", "drop", "keyword.control"),
        ('modparam("proto_ws", "trace_on", 1)', "modparam", "keyword.other.directive"),
        ("max_while_loops = 5", "max_while_loops", "variable.parameter.global"),
        ("if ($socket_in(tag) == NULL) drop;", "NULL", "constant.language"),
        ("unknown_function($si);", "unknown_function", "entity.name.function.call"),
    ],
)
def test_a_part_has_its_scope(text: str, part: str, scope: str) -> None:
    assert (part, scope) in scopes(text)


def test_comments_and_strings_hide_keywords() -> None:
    for text in ("/* a /* drop */ drop */", "# drop", '"drop"', "'drop'", "$var(drop)"):
        assert not [part for part, scope in scopes(text) if scope == "keyword.control"]


def words(pattern: str) -> set[str]:
    found = re.search(r"\\b\(([a-z_0-9|]+)\)\\b", pattern)
    return set(found[1].split("|")) if found else set()


def test_the_grammar_knows_every_word_of_the_language() -> None:
    repository = GRAMMAR["repository"]
    control, operators, logs = (words(rule["match"]) for rule in repository["keywords"]["patterns"])
    assert control | operators | logs | {"route"} == set(KEYWORDS)
    functions = words(repository["functions"]["patterns"][0]["match"])
    assert functions == {*PARAMETERS, *WITHOUT_EFFECT}
    routes = repository["definitions"]["patterns"][0]["match"]
    assert all(name in routes for name in OTHER_ROUTES)
    constants = repository["constants"]["patterns"][0]["match"]
    assert all(word in constants for word in (*CONSTANTS, "NULL"))


def test_the_extension_names_files_that_are_there() -> None:
    package = json.loads((FOLDER / "package.json").read_text())["contributes"]
    (language,), (grammar,) = package["languages"], package["grammars"]
    assert (FOLDER / language["configuration"]).is_file()
    assert (FOLDER / grammar["path"]).is_file()
    assert grammar["scopeName"] == GRAMMAR["scopeName"]
    json.loads((FOLDER / language["configuration"]).read_text())
