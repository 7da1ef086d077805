"""Literals of Spark SQL that Spark and Sail read alike."""

from __future__ import annotations


def quote_text(text: str) -> str:
    """A text as a literal of Spark SQL. A doubled quote means different things to the two engines; a backslash not.

    Spark replaces `${name}` by a variable of the session, or by nothing, before it parses a statement.
    """
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("${", "$\\{") + "'"
