"""What a kernel may use of its machine's memory, on one machine and on many."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2d2.config import AuditConfig
from r2d2.pipeline import kernels_of
from r2d2.scan import duck
from r2d2.scan.duck import LEAST_KERNEL_BYTES, KernelLimits
from r2d2.scan.job import Kernels
from r2d2.session import Engine


def kernels(*, parallelism: int, memory_bytes: int, is_spark: bool, is_cluster: bool = False) -> Kernels:
    nothing: Any = None
    engine = Engine(
        spark=nothing,
        name="spark" if is_spark else "sail",
        parallelism=parallelism,
        versions={},
        workers_share_files=not is_cluster,
        is_spark=is_spark,
    )
    return kernels_of(AuditConfig(lake="lake", out="out", memory_bytes=memory_bytes), engine, "work")


@given(parallelism=st.integers(1, 200), memory_bytes=st.integers(256 << 20, 1 << 40))
def test_where_all_tasks_run_at_once_their_kernels_fit_into_half_of_the_memory(
    parallelism: int, memory_bytes: int
) -> None:
    found = kernels(parallelism=parallelism, memory_bytes=memory_bytes, is_spark=False)
    assert found.tasks == found.parallelism <= parallelism
    assert found.tasks * found.limits.memory_bytes <= memory_bytes // 2
    assert found.spill.least_rows is not None
    assert found.spill.folder == "work/spill"


@given(parallelism=st.integers(1, 200), memory_bytes=st.integers(256 << 20, 1 << 40))
def test_spark_queues_tasks_and_shuffles_on_disk(parallelism: int, memory_bytes: int) -> None:
    found = kernels(parallelism=parallelism, memory_bytes=memory_bytes, is_spark=True)
    assert (found.parallelism, found.tasks, found.spill.least_rows) == (parallelism, 4 * parallelism, None)
    assert found.limits.memory_bytes == max(LEAST_KERNEL_BYTES, memory_bytes // 2 // parallelism)


@pytest.mark.parametrize(("parallelism", "cpus", "here"), [(200, 8, 8), (3, 8, 3)])
def test_on_a_cluster_a_machine_has_no_more_kernels_than_cpus(
    monkeypatch: pytest.MonkeyPatch, parallelism: int, cpus: int, here: int
) -> None:
    found = kernels(parallelism=parallelism, memory_bytes=64 << 30, is_spark=True, is_cluster=True)
    monkeypatch.setattr(duck, "cpu_count", lambda: cpus)
    assert found.limits.memory_bytes == (32 << 30) // here


def test_one_machine_may_have_more_kernels_than_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duck, "cpu_count", lambda: 2)
    assert KernelLimits(machine_bytes=8 << 30, kernels=4).memory_bytes == 2 << 30
