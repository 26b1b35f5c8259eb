"""Studies of the synthetic tasks, which train in a blink; workers import them by name."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from amt_pipeline.core.parallel import ParallelConfig
from amt_pipeline.ranking.rank import RankingConfig
from amt_pipeline.search.run_study import run_study
from amt_pipeline.search.study import StudyConfig
from amt_pipeline.search.variant import VariantJob, VariantResult
from engine_support import SyntheticClassTask, SyntheticTask

INLINE = ParallelConfig(workers=1)
MARKER = "died"


class DyingTask(SyntheticTask):
    """Kills its process in step 9, once: a file beside the store says that it did."""

    def __init__(self, store_folder: Path, **settings: Any) -> None:
        super().__init__(store_folder, **settings)
        self.before_step = self._die

    def _die(self, step: int) -> None:
        marker = self.store_folder.parent / MARKER
        if step == 9 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def make_jobs(
    config: StudyConfig, store_folder: Path, folder: Path, kind: type[SyntheticTask] | None = None
) -> list[VariantJob]:
    kind = kind or {"loud": SyntheticTask, "loudest": SyntheticClassTask}[config.task]
    jobs = []
    for variant in config.expand("tiny"):
        blocks = variant.overrides
        task = kind(store_folder, **blocks.get("model", {}), **blocks["training"])
        jobs.append(VariantJob.of(variant, task, RankingConfig(resamples=200), {}, folder))
    return jobs


def run(jobs: list[VariantJob], workers: int = 1, **more: Any) -> list[VariantResult]:
    return run_study(jobs, label="tiny", parallel=ParallelConfig(workers=workers), **more)


def outcome(result: VariantResult) -> dict[str, Any]:
    """What must not depend on where or in how many starts a training was done."""
    fields = result.as_json()
    return {name: fields[name] for name in fields if name not in {"seconds", "reused"}}


if __name__ == "__main__":
    study, store, place = sys.argv[1:]
    run(make_jobs(StudyConfig.model_validate_json(study), Path(store), Path(place), DyingTask))
