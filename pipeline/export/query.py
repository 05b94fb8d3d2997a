"""A small, safe query language over a table's columns: comparisons, `in`, `and`, `or`, `not`; nothing is executed."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc

_COMPARE = {
    ast.Eq: "__eq__",
    ast.NotEq: "__ne__",
    ast.Lt: "__lt__",
    ast.LtE: "__le__",
    ast.Gt: "__gt__",
    ast.GtE: "__ge__",
}


class QueryError(ValueError):
    """The query cannot be understood; the message shows where."""


def parse_query(text: str, schema: pa.Schema) -> pc.Expression:
    """`"contact > 0.6 and host in ('a.org', 'b.org')"` -> a filter for a table with this schema. Raises QueryError.

    `x == None` asks for missing values.
    """
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError as error:
        raise QueryError(f"--subset {text!r}: {error.msg} at character {error.offset}") from error
    return _Builder(text, schema).build(tree.body)


class _Builder:
    def __init__(self, text: str, schema: pa.Schema) -> None:
        self.text, self.schema = text, schema

    def build(self, node: ast.expr) -> Any:
        """A condition."""
        match node:
            case ast.BoolOp(op=op, values=values):
                conditions = [self.build(value) for value in values]
                result = conditions[0]
                for condition in conditions[1:]:
                    result = result & condition if isinstance(op, ast.And) else result | condition
                return result
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return ~self.build(operand)
            case ast.Compare(left=left, ops=operators, comparators=rights):
                result, previous = None, left
                for operator, right in zip(operators, rights, strict=True):
                    one = self._compare(previous, operator, right)
                    result, previous = one if result is None else result & one, right
                return result
        raise self._error(node, "expected a comparison")

    def _compare(self, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> Any:
        if isinstance(operator, ast.In | ast.NotIn):
            values = self._literal(right)
            if not isinstance(values, list | tuple):
                raise self._error(right, f"`in` wants a list of values; for one write [{values!r}]")
            inside = self._column(left).isin(list(values))
            return ~inside if isinstance(operator, ast.NotIn) else inside
        if type(operator) not in _COMPARE:
            raise self._error(left, "this operator is not known")
        if isinstance(right, ast.Name) and not isinstance(left, ast.Name):
            mirrored = {ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.GtE: ast.LtE}
            return self._compare(right, mirrored.get(type(operator), type(operator))(), left)
        column, value = self._column(left), self._literal(right)
        if value is None:
            return column.is_null() if isinstance(operator, ast.Eq) else ~column.is_null()
        return getattr(column, _COMPARE[type(operator)])(value)

    def _column(self, node: ast.expr) -> Any:
        import pyarrow.compute as pc

        if not isinstance(node, ast.Name):
            raise self._error(node, "expected a column's name")
        if node.id not in self.schema.names:
            raise self._error(node, f"no column {node.id!r}; there are {', '.join(self.schema.names)}")
        return pc.field(node.id)

    def _literal(self, node: ast.expr) -> Any:
        try:
            return ast.literal_eval(node)
        except ValueError as error:
            raise self._error(node, "expected a number, a text in quotes, None, or a list of them") from error

    def _error(self, node: ast.expr, problem: str) -> QueryError:
        where = ast.get_source_segment(self.text, node) or self.text
        return QueryError(f"--subset {self.text!r}: {problem}, at {where!r}")
