"""Trainings of a few iterations on the golden mini trees, in this process or another."""

from pathlib import Path

from helpers.script_tools import PUBLISHED, ROOT, SMALL
from mmseg.apis.arguments import parse_value
from mmseg.config.data_root import set_root
from mmseg.config.load import load_config

# the launcher leaves out what nothing uses
QUICK = {
    "model.fusion_isr_module.type": "",
    "data.workers_per_gpu": 0,
    "evaluation.interval": 0,
    "uda.debug_img_interval": 0,
    "log_config.interval": 1,
}


def config_of(project: Path, **changes: object):
    values = {**SMALL, **QUICK, **changes}
    config = load_config(ROOT / PUBLISHED, {key: parse_value(str(value)) for key, value in values.items()})
    set_root(config, project)
    return config


LONG = {"runner.max_iters": 500, "checkpoint_config.interval": 500}


# A training whose step takes no time worth speaking of, so that many can run at once.
LIGHT = """
import torch
from mmseg.uda.cmda import DACS, StepResult

def light(self, batch, draws, backward):
    import time
    time.sleep(0.02)
    weight = next(p for p in self.model.parameters() if p.requires_grad)
    loss = (weight * (1 + draws.iteration)).sum()
    backward(loss)
    return StepResult({"decode.loss_seg": loss.detach()}, {})

DACS.train_step = light
"""
