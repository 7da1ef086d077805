"""Who may import what, beyond the layers that import-linter checks."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import r2d2

PACKAGE = Path(r2d2.__file__).parent
MODULES = sorted(path.relative_to(PACKAGE.parent) for path in PACKAGE.rglob("*.py"))
KNOWS_SPARK = {"session", "pipeline", "planning", "cli", "sample"}
"""Modules of the top level that may import pyspark when they are imported."""
JOBS = {"stage", "job", "bag_job", "remainders", "run"}
"""Modules of packages that may."""
OUTSIDE_CONNECT = {"sparkContext", "_jvm", "_jdf", "_jsparkSession", "_jsc", "rdd", "_sc", "SparkContext"}


def module_name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def names_of(tree: ast.AST) -> set[str]:
    """Attributes, variables and imported names that a module uses."""
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    variables = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    return attributes | variables | {alias.name for node in imports for alias in node.names}


def imports_pyspark(tree: ast.Module) -> bool:
    """Whether a module itself imports pyspark when it runs, be it within a function."""
    checked_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in names_of(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in checked_only:
            continue
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if any(module.split(".")[0] == "pyspark" for module in modules):
            return True
    return False


def parsed(path: Path) -> ast.Module:
    return ast.parse((PACKAGE.parent / path).read_text())


def is_kernel(path: Path) -> bool:
    """A module that computes: no entry point, no stage, its jobs, nor what it is given; none asks for pyspark."""
    return path.stem not in KNOWS_SPARK | JOBS and not imports_pyspark(parsed(path))


KERNELS = [module_name(path) for path in MODULES if is_kernel(path)]
KERNELS_FOR_CERTAIN = {"r2d2.scan.rowhash", "r2d2.scan.compare", "r2d2.scan.duck", "r2d2.prune.minmax"}


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_only_what_works_through_spark_connect_is_used(path: Path) -> None:
    if module_name(path) != "r2d2.session":
        assert not names_of(parsed(path)) & OUTSIDE_CONNECT


def test_kernels_are_importable_without_pyspark() -> None:
    """One fresh process for all: it stops at the first kernel after which pyspark is loaded."""
    program = f"""
import importlib, sys
for name in {KERNELS!r}:
    importlib.import_module(name)
    if "pyspark" in sys.modules:
        sys.exit(f"{{name}} loads pyspark")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_kernels_are_among_them() -> None:
    assert set(KERNELS) >= KERNELS_FOR_CERTAIN


def test_the_guards_can_fail() -> None:
    tree = ast.parse("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pyspark\n")
    assert not imports_pyspark(tree)
    assert imports_pyspark(ast.parse("def f():\n    from pyspark.sql import functions"))
    assert names_of(ast.parse("spark.sparkContext.parallelize([1])")) & OUTSIDE_CONNECT


@pytest.mark.parametrize("name", ["pyspark", "pysail", "deltalake", "pyarrow.dataset"])
def test_the_package_itself_imports_nothing_slow(name: str) -> None:
    program = f"import sys, r2d2, r2d2.session; sys.exit({name!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
