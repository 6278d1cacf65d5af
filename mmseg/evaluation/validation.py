"""Evaluation of the student during training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from mmseg.config.run import RunConfig
from mmseg.datasets.base import EvaluationSet
from mmseg.engine.prediction import Predictor, recorder_for
from mmseg.engine.run_log import RunLog, SilentLog
from mmseg.errors import ConfigError
from mmseg.evaluation.evaluator import evaluate
from mmseg.evaluation.logged import logged_scores
from mmseg.evaluation.tables import score_table
from mmseg.evaluation.test_set import check_test_set, default_output
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.work_dir.log_file import PERCENT


class Validation:
    """Evaluates a model on the validation set of a training; see :class:`mmseg.engine.trainer.Validator`.

    Args:
        run: config of the training.
        dataset: its validation set.
        device: where the model is.
    """

    def __init__(self, run: RunConfig, dataset: EvaluationSet, device: torch.device) -> None:
        self.run, self.dataset, self.device = run, dataset, device

    def check(self, model: BaseSegmentor) -> None:
        """Check that the validation set holds what the model and the choice of the best checkpoint need.

        Raises:
            ConfigError: naming the key.
        """
        check_test_set(model, self.dataset, default_output(model, self.dataset), "data.val")
        classes = self.dataset.classes
        present = len(classes) - len(classes.absent(self.dataset.ABSENT_CLASSES))
        if self.run.evaluation.save_best == "mIoU_18" and (present != 18 or len(classes) == 18):
            of = f"all {len(classes)}" if present == len(classes) else f"{present} of {len(classes)}"
            raise ConfigError(f"evaluation.save_best is 'mIoU_18', but data.val has labels of {of} classes; set 'mIoU'")

    def evaluate(
        self, model: BaseSegmentor, done: int, folder: Path, log: RunLog | SilentLog
    ) -> Mapping[str, float] | None:
        """Predict the validation set with a model in eval mode; panels are drawn at the end only.

        Args:
            done: number of finished iterations.
            folder: where predictions and scores are written.

        Returns:
            Score by name, or None if the set has no labels.
        """
        # For this evaluation only: the weights change, and the training needs the memory.
        recorder = recorder_for(self.device, self.run.numerics.cuda_graphs)
        result = evaluate(
            model,
            self.dataset,
            default_output(model, self.dataset),
            self.device,
            folder,
            panels=done == self.run.runner.max_iters,
            workers=self.run.data.workers_per_gpu if self.device.type == "cuda" else 0,
            tested={"model": "student", "iteration": done},
            skip_bad_samples=self.run.data.skips_bad_samples,
            predictor=Predictor(model, self.device, None, recorder, log.warning),
        )
        log.info("evaluation after iteration %d: %s; predictions in %s", done, result.headline(), folder)
        for reason in result.left_out:
            log.warning(f"left out of the evaluation: {reason}")
        if result.scores is None:
            return None
        log.record("val", done, logged_scores(result.scores), PERCENT)
        log.console.print(score_table(result.scores, f"{result.output} output after iteration {done}"))
        return result.scores.summary()
