"""The steps of the image, run outside of a container on a copy of what its build context lets in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def copied(dockerfile: str) -> list[str]:
    """What the Dockerfile copies out of its build context."""
    lines = [line.split() for line in dockerfile.splitlines() if line.startswith("COPY ") and "--from" not in line]
    return [source for _, *sources, _ in lines for source in sources]


def build_context(folder: Path) -> Path:
    for name in copied((ROOT / "docker" / "Dockerfile").read_text()):
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)
    return folder


def run_step(context: Path, *arguments: str, **environment: str) -> str:
    path = f"{ROOT / '.tools' / 'uv' / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        [str(context / "docker" / "steps.sh"), *arguments],
        cwd=context,
        env={key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"} | {"PATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_steps_of_the_image_install_the_command_without_development_tools(tmp_path: Path) -> None:
    context = build_context(tmp_path / "context")
    prefix = tmp_path / "prefix"
    run_step(context, "install", str(prefix), PYTHON=sys.executable, UV_COMPILE_BYTECODE="0")
    shutil.rmtree(context / "r2d2")
    said = run_step(context, "check", str(prefix))
    assert said.startswith(str(prefix))
    assert "audit" in said
    installed = {path.name.split("-")[0] for path in prefix.glob("lib/python*/site-packages/*.dist-info")}
    assert {"pysail", "duckdb", "r2d2_lake"} <= installed
    assert not {"pytest", "ruff", "mypy"} & installed


def test_everything_the_image_copies_is_let_into_its_build_context() -> None:
    let_in = (ROOT / "docker" / "Dockerfile.dockerignore").read_text().split()
    assert {f"!{name.rstrip('/')}" for name in copied((ROOT / "docker" / "Dockerfile").read_text())} - {"!docker/"} <= {
        *let_in
    }


def test_the_image_runs_as_an_ordinary_user() -> None:
    lines = (ROOT / "docker" / "Dockerfile").read_text().splitlines()
    assert lines.index("USER r2d2") < lines.index('ENTRYPOINT ["r2d2"]')
