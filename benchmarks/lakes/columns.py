"""Columns whose values are functions of row codes, computed for whole arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.lakes.rows import FAMILY_SHIFT, NUMBER_BITS, Codes, number_of, version_of, without_version

Words = npt.NDArray[np.uint64]

WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath", "inlet", "jetty", "knoll", "ledge")
_HEX = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), np.uint16)
_EPOCH_DAY = 19_000


@dataclass(frozen=True)
class Column:
    """A column of a lake."""

    name: str
    values: Callable[[Codes], pa.Array]


def mix(codes: Codes, seed: int) -> Words:
    """A bijection of 64-bit words (the finaliser of splitmix64) after adding a seed."""
    h = codes.astype(np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15) % (1 << 64))
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


def below(codes: Codes, seed: int, bound: int) -> Codes:
    """Pseudo-random numbers from 0 to bound - 1, one per row whatever its version."""
    return (mix(without_version(codes), seed) % np.uint64(bound)).astype(np.int64)


def scattered_key(codes: Codes, seed: int) -> pa.Array:
    """A key all over the range of 64 bits, so that minimum and maximum say little."""
    return pa.array(mix(without_version(codes), seed).view(np.int64))


def running_key(codes: Codes) -> pa.Array:
    """A key that counts up, families one after the other."""
    return pa.array(((codes >> FAMILY_SHIFT) << NUMBER_BITS) + number_of(codes))


def amounts(codes: Codes, seed: int) -> pa.Array:
    """Numbers that differ between the versions of a row."""
    return pa.array(below(codes, seed, 1_000_000) * 256 + version_of(codes))


def small_ints(codes: Codes, seed: int) -> pa.Array:
    return pa.array(below(codes, seed, 1_000).astype(np.int32))


def doubles(codes: Codes, seed: int) -> pa.Array:
    return pa.array(below(codes, seed, 10_000_000) / 8.0)


def decimals(codes: Codes, seed: int) -> pa.Array:
    cells = np.zeros((len(codes), 2), np.int64)
    cells[:, 0] = below(codes, seed, 10_000_000)
    return pa.Array.from_buffers(pa.decimal128(12, 2), len(codes), [None, pa.py_buffer(cells)])


def dates(codes: Codes, seed: int) -> pa.Array:
    return pa.array((_EPOCH_DAY + below(codes, seed, 1_000)).astype(np.int32), pa.date32())


def instants(codes: Codes, seed: int) -> pa.Array:
    return pa.array(_EPOCH_DAY * 86_400_000_000 + below(codes, seed, 10**14), pa.timestamp("us", tz="UTC"))


def flags(codes: Codes, seed: int) -> pa.Array:
    return pa.array(below(codes, seed, 2) == 1)


def words(codes: Codes, seed: int, choice: Sequence[str] = WORDS) -> pa.Array:
    return pa.array(choice).take(pa.array(below(codes, seed, len(choice))))


def gappy_words(codes: Codes, seed: int) -> pa.Array:
    """Words, one in ten of them NULL."""
    places = below(codes, seed, 10 * len(WORDS))
    return pa.array(WORDS).take(pa.array(places % len(WORDS), mask=places // len(WORDS) == 0))


def texts(codes: Codes, seed: int, length: int = 256) -> pa.Array:
    """Texts of hexadecimal digits, no two alike; a multiple of 16 long."""
    parts = [mix(without_version(codes), seed + part) for part in range(length // 16)]
    digits = _HEX[np.stack(parts, axis=1).view(np.uint8)]
    offsets = np.arange(len(codes) + 1, dtype=np.int32) * length
    return pa.Array.from_buffers(pa.string(), len(codes), [None, pa.py_buffer(offsets), pa.py_buffer(digits)])


def day_of(codes: Codes, rows_per_day: int) -> pa.Array:
    """The day to which a number belongs."""
    return pa.array((_EPOCH_DAY + number_of(codes) // rows_per_day).astype(np.int32), pa.date32())


KINDS = (small_ints, words, doubles, dates, decimals, gappy_words, instants, flags)


def key_columns(*, scatter: bool) -> tuple[Column, Column]:
    """The two columns that every table has: they tell apart all rows and all versions."""
    key = partial(scattered_key, seed=1) if scatter else running_key
    return Column("id", key), Column("amount", partial(amounts, seed=2))


def plain_columns(count: int, prefix: str = "c") -> tuple[Column, ...]:
    """Columns of all kinds in turn."""
    return tuple(
        Column(f"{prefix}{place}", partial(KINDS[place % len(KINDS)], seed=10 + place)) for place in range(count)
    )
