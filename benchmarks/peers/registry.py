"""The peers by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.peers.tables import Answer, Task


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A way to find contained tables.

    Attributes:
        says: What it is, for people.
        run: Answers a task; imports what it needs when it runs, and only then.
        environment: Of `environments.sh`; None is the project's own.
        bag: It finds containments as bags, not as sets.
        exact: What it finds is proved; else it only names likely pairs.
        budget: It stops after the budget and extrapolates.
        most_pairs: Pairs beyond which it is left out, as it lists them all.
    """

    says: str
    run: Callable[[Task], Answer]
    environment: str | None = None
    bag: bool = False
    exact: bool = True
    budget: bool = False
    most_pairs: int | None = None


def _r2d2(engine: str, *, no_unions: bool = False) -> Callable[[Task], Answer]:
    def run(task: Task) -> Answer:
        from benchmarks.peers.r2d2_audit import r2d2_audit

        return r2d2_audit(task, engine, no_unions=no_unions)

    return run


def _duck(name: str) -> Callable[[Task], Answer]:
    def run(task: Task) -> Answer:
        from benchmarks.peers import duck

        answered: Answer = getattr(duck, name)(task)
        return answered

    return run


def _spark(name: str) -> Callable[[Task], Answer]:
    def run(task: Task) -> Answer:
        from benchmarks.peers import spark

        with spark.spark_session(task.threads) as session:
            answered: Answer = getattr(spark, name)(task, session)
            return answered

    return run


def _frames(name: str) -> Callable[[Task], Answer]:
    def run(task: Task) -> Answer:
        from benchmarks.peers import frames

        answered: Answer = getattr(frames, name)(task)
        return answered

    return run


def _ensemble(task: Task) -> Answer:
    from benchmarks.peers.ensemble import lsh_ensemble

    return lsh_ensemble(task)


def _paper(task: Task) -> Answer:
    from benchmarks.paper import paper_peer
    from benchmarks.peers.spark import spark_session

    with spark_session(task.threads) as session:
        return paper_peer(task, session)


PEERS: Mapping[str, Peer] = {
    "r2d2": Peer(says="R2D2 on Sail", run=_r2d2("sail")),
    "r2d2-pairs": Peer(says="R2D2 on Sail with `--no-unions`", run=_r2d2("sail", no_unions=True)),
    "r2d2-spark": Peer(says="R2D2 on Spark", run=_r2d2("spark")),
    "scan": Peer(says="DuckDB hashing every column once (no answer)", run=_duck("grouped_scan")),
    "hash-sets": Peer(says="sets of row hashes in one process", run=_duck("hash_sets")),
    "minmax-except": Peer(says="raw min-max, then DuckDB EXCEPT", run=_duck("minmax_except"), budget=True),
    "except": Peer(says="DuckDB EXCEPT per pair", run=_duck("except_per_pair"), budget=True),
    "except-all": Peer(says="Spark exceptAll per pair", run=_spark("except_all"), bag=True, budget=True),
    "theta": Peer(says="Spark theta sketches", run=_spark("theta_sketches"), exact=False, budget=True),
    "lsh-ensemble": Peer(
        says="datasketch MinHashLSHEnsemble at 0.9", run=_ensemble, environment="peers", exact=False, budget=True
    ),
    "datacompy": Peer(says="datacompy per pair", run=_frames("datacompy_pairs"), environment="peers", budget=True),
    "desbordante": Peer(
        says="Desbordante per pair", run=_frames("desbordante_pairs"), environment="desbordante", budget=True
    ),
    "paper": Peer(says="the paper's pipeline on Spark", run=_paper, exact=False, budget=True, most_pairs=2_000_000),
}
