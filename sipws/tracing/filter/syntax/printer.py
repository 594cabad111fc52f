"""Prints syntax trees as script. The script parses to the same tree."""

from typing import Final

from sipws.tracing.filter.syntax import nodes
from sipws.tracing.filter.syntax.lexer import quote
from sipws.tracing.filter.syntax.pseudo import print_variable

_INDENT: Final = "    "


def print_route(route: nodes.Route) -> str:
    """Print a route, one statement per line."""
    name = quote(route.name)
    return f"route[{name}] {{\n{print_body(route.body, 1)}}}\n"


def print_body(body: nodes.Body, depth: int) -> str:
    """Print statements, each on its own lines; an empty body is ``;``."""
    lines = [print_statement(statement, depth) for statement in body] or [";"]
    return "".join(f"{_INDENT * depth}{line}\n" for line in lines)


def print_statement(node: nodes.Statement, depth: int = 0) -> str:
    """Print a statement; its first line is not indented."""
    match node:
        case nodes.If(branches, otherwise):
            parts = [
                f"if ({print_condition(condition)}) {_block(body, depth)}"
                for condition, body in branches
            ]
            if otherwise is not None:
                parts.append(_block(otherwise, depth))
            return " else ".join(parts)
        case nodes.While(condition, body):
            return f"while ({print_condition(condition)}) {_block(body, depth)}"
        case nodes.For(item, values, body):
            head = f"for ({print_variable(item)} in {print_variable(values)})"
            return f"{head} {_block(body, depth)}"
        case nodes.Switch():
            return _switch(node, depth)
        case nodes.Break():
            return "break;"
        case nodes.Assignment():
            return f"{_assignment(node)};"
    return f"{_command(node)};"


def print_condition(node: nodes.Condition) -> str:
    """Print a condition without brackets around it."""
    match node:
        case nodes.Chain(first, rest):
            links = "".join(f" {link} {print_condition(condition)}" for link, condition in rest)
            return print_condition(first) + links
        case nodes.Not(condition):
            return f"!{print_condition(condition)}"
        case nodes.Group(condition):
            return f"({print_condition(condition)})"
        case nodes.Bracketed(value):
            return f"[ {print_value(value)} ]"
        case nodes.Truth(operand):
            return _operand(operand)
        case nodes.Comparison():
            return _comparison(node)
    return _done(node.body)


def print_value(node: nodes.Value) -> str:
    """Print a calculation."""
    match node:
        case nodes.Arithmetic(first, rest):
            return _unit(first) + "".join(f" {sign} {_unit(value)}" for sign, value in rest)
        case nodes.Invert(operand):
            return f"~ {_unit(operand)}"
        case nodes.Comparison():
            return _comparison(node)
        case nodes.Variable() | nodes.Text() | nodes.Number():
            return _operand(node)
    return _command(node)


def _unit(node: nodes.Value) -> str:
    text = print_value(node)
    return f"({text})" if isinstance(node, (nodes.Arithmetic, nodes.Comparison)) else text


def _block(body: nodes.Body, depth: int) -> str:
    if not body:
        return "{}"
    return f"{{\n{print_body(body, depth + 1)}{_INDENT * depth}}}"


def _switch(node: nodes.Switch, depth: int) -> str:
    inner = _INDENT * (depth + 1)
    lines = [f"switch ({print_variable(node.operand)}) {{"]
    for case in node.cases:
        lines.append(f"{inner}case {_operand(case.label)}:")
        lines += _within(case.body, depth)
    if node.default is not None:
        lines.append(f"{inner}default:")
        lines += _within(node.default, depth)
    return "\n".join([*lines, f"{_INDENT * depth}}}"])


def _within(body: nodes.Body, depth: int) -> list[str]:
    return [print_body(body, depth + 2).rstrip("\n")] if body else []


def _comparison(node: nodes.Comparison) -> str:
    return f"{print_variable(node.left)} {node.operator} {_operand(node.right)}"


def _operand(node: nodes.Operand | None) -> str:
    match node:
        case None:
            return ""
        case nodes.Variable():
            return print_variable(node)
        case nodes.Text(text):
            return quote(text)
        case nodes.Number(number):
            return str(number)
        case nodes.Network(text):
            return text
    return "NULL"


def _assignment(node: nodes.Assignment) -> str:
    value = "NULL" if isinstance(node.value, nodes.Null) else print_value(node.value)
    return f"{print_variable(node.target)} {node.operator} {value}"


def _done(body: nodes.Body) -> str:
    if len(body) == 1:
        (only,) = body
        if isinstance(only, nodes.Assignment):
            return _assignment(only)
        if isinstance(only, nodes.Command):
            return _command(only)
    return "{ " + " ".join(print_statement(statement) for statement in body) + " }"


def _command(node: nodes.Command) -> str:
    match node:
        case nodes.Drop():
            return "drop"
        case nodes.Exit():
            return "exit"
        case nodes.Return(code, values):
            if code is None and not values:
                return "return"
            return f"return({', '.join(_operand(part) for part in (code, *values))})"
        case nodes.RouteCall(name, arguments):
            called = quote(name) if isinstance(name, str) else print_variable(name)
            return f"route({', '.join((called, *map(_operand, arguments)))})"
        case nodes.Call(function, arguments):
            return f"{function}({', '.join(map(_operand, arguments))})"
        case nodes.Log(function, level, text):
            parts = [_operand(part) for part in (level, text) if part is not None]
            return f"{function}({', '.join(parts)})"
        case nodes.Assert(condition, text):
            said = "" if text is None else f", {quote(text.value)}"
            return f"assert({print_condition(condition)}{said})"
