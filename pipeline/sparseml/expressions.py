"""Arithmetic that other tools' recipes hold in text: `eval(num_epochs - 1)`. Read as a syntax tree, never run."""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

Number = int | float

_LONGEST = 200
_LARGEST = 1e15
_HIGHEST_POWER = 64
_MOST_VARIABLES = 200
_DEEPEST = 20

_OPERATIONS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_SIGNS: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {ast.USub: operator.neg, ast.UAdd: operator.pos}


def _round(value: float, digits: int | None = None) -> float:
    """With few digits: many, or many under zero, are numbers of any length."""
    if digits is not None and digits not in range(16):
        raise ValueError(f"rounds to {digits} digits; allowed: 0 to 15")
    return round(value, digits)


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "abs": abs,
    "float": float,
    "int": int,
    "max": max,
    "min": min,
    "round": _round,
}
_ALLOWED = f"numbers, variables, + - * / // % **, parentheses, {', '.join(_FUNCTIONS)}"


def expression_in(value: Any) -> str | None:
    """The arithmetic of `eval(...)`; None for any other value."""
    return value[5:-1].strip() if isinstance(value, str) and value[:5] == "eval(" and value[-1] == ")" else None


def evaluate_expression(expression: str, variables: Mapping[str, Any]) -> Any:
    """The value of an expression; one that is only a variable's name may be of any type.

    Raises ValueError, one line, for anything but small arithmetic. Sizes are bounded at every step, so that no
    expression takes time or memory: a text of 200 characters, values up to 1e15, exponents up to 64.
    """
    if expression in variables:
        return variables[expression]
    if len(expression) > _LONGEST:
        raise ValueError(f"is longer than {_LONGEST} characters")
    try:
        return _value(ast.parse(expression, mode="eval").body, variables)
    except SyntaxError as error:
        raise ValueError(f"is no arithmetic; allowed: {_ALLOWED}") from error
    except (ArithmeticError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(f"cannot be computed: {error or type(error).__name__}") from error


def with_evaluated(variables: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The variables with the expressions among them evaluated, and why those are left that cannot be.

    They may use each other in any order. At most 200, at most 20 deep, so that a recipe cannot take minutes.
    """
    known = {name: value for name, value in variables.items() if expression_in(value) is None}
    waiting = {name: text for name, value in variables.items() if (text := expression_in(value)) is not None}
    if len(waiting) > _MOST_VARIABLES:
        return known, dict.fromkeys(waiting, f"more than {_MOST_VARIABLES} variables are computed")
    failed: dict[str, str] = {}
    for _ in range(_DEEPEST):
        computed, failed = _attempt({name: text for name, text in waiting.items() if name not in known}, known)
        if not computed:
            break
        known |= computed
    return known, failed


def _attempt(waiting: Mapping[str, str], known: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    computed, failed = dict[str, Any](), dict[str, str]()
    for name, text in waiting.items():
        try:
            computed[name] = evaluate_expression(text, known)
        except ValueError as error:
            failed[name] = str(error)
    return computed, failed


def _value(node: ast.expr, variables: Mapping[str, Any]) -> Number:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return _bounded(value)
        case ast.Name(id=name):
            return _variable(name, variables)
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _SIGNS:
            return _bounded(_SIGNS[type(sign)](_value(operand, variables)))
        case ast.BinOp(left=left, op=operation, right=right) if type(operation) in _OPERATIONS:
            a, b = _value(left, variables), _value(right, variables)
            if isinstance(operation, ast.Pow) and abs(b) > _HIGHEST_POWER:
                raise ValueError(f"raises to the power {b}; allowed: up to {_HIGHEST_POWER}")
            return _bounded(_OPERATIONS[type(operation)](a, b))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            return _bounded(_FUNCTIONS[name](*(_value(argument, variables) for argument in arguments)))
    raise ValueError(f"holds {ast.unparse(node)!r}; allowed: {_ALLOWED}")


def _variable(name: str, variables: Mapping[str, Any]) -> Number:
    value = variables.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        numbers = (key for key, known in variables.items() if isinstance(known, int | float))
        raise ValueError(f"uses {name}, which is no number; known: {', '.join(numbers) or 'none'}")
    return _bounded(value)


def _bounded(value: Any) -> Number:
    if not isinstance(value, int | float):  # a root of a negative number is complex
        raise ValueError(f"gives {value!r}, which is no number")
    if math.isnan(value) or abs(value) > _LARGEST:
        raise ValueError(f"gives a number beyond {_LARGEST:g}")
    return value
