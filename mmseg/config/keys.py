"""The keys of a config, in one place: kind and range, default, and what each does.

``CONFIG`` is the whole table, with the components of :mod:`mmseg.config.components`. The checks of
:mod:`mmseg.config.load`, the keys that are dropped and the paths that are re-rooted come from it; a test compares its
defaults with those of the components. Needs the standard library only.
"""

from __future__ import annotations

from mmseg.config.components import (
    BATCH_NORM,
    CLASSES,
    DATA,
    INTERVAL,
    ISR_PARMS,
    LARGEST_SIDE,
    MODELS,
    OFF,
    SHARE,
    SHIFT_TYPE,
    TRAIN_TYPE,
    UNDESCRIBED,
    WEIGHT,
)
from mmseg.config.kinds import REQUIRED, Choice, Flag, Key, ListOf, Number, Off, PathText, Text, Unread, Whole
from mmseg.config.sections import Either, MapOf, Section, Sections, Variants, walk

STREAM_WEIGHTS = Section(
    {
        "image": Key(WEIGHT, 0.5, "weight of the image output's loss"),
        "events": Key(WEIGHT, 0.5, "weight of the events output's loss"),
        "fusion": Key(WEIGHT, 0.5, "weight of the fused output's loss"),
        "img_self_res": Key(WEIGHT, 0.25, "weight of the content map output's loss"),
    }
)
FORWARD = Section(
    {
        "loss_weight": Key(STREAM_WEIGHTS, {}, "weights of the outputs' losses"),
        "gradual_rate": Key(Off((0, 0.0), UNDESCRIBED), 0, "weights that change over the training"),
    }
)
_DECIMAL = r"(?:0?\.\d+|[01](?:\.0*)?)"
CHOICE_THRESHOLD = Either(
    (
        SHARE,
        Text(
            "a text such as '0.5', a range such as '0.7-0.3', 'linear' (1-0), 'nlinear' (0-1) or ''",
            rf"linear|nlinear||{_DECIMAL}(?:-{_DECIMAL})?",
        ),
    )
)
METHOD = {
    "train_type": Key(TRAIN_TYPE, REQUIRED, "training variant: its streams, fusion and pseudo-labels"),
    "alpha": Key(SHARE, 0.99, "upper bound of the teacher's momentum"),
    "pseudo_threshold": Key(SHARE, 0.968, "confidence from which a target pixel counts as certain"),
    "pseudo_weight_ignore_top": Key(Whole(0, LARGEST_SIDE), 0, "upper rows of the target that weigh nothing"),
    "pseudo_weight_ignore_bottom": Key(Whole(0, LARGEST_SIDE), 0, "lower rows of the target that weigh nothing"),
    "imnet_feature_dist_lambda": Key(WEIGHT, 0.0, "weight of the ImageNet feature distance; 0 switches it off"),
    "imnet_feature_dist_classes": Key(
        ListOf(Whole(0, CLASSES - 1), 1, CLASSES, "of train ids", different=True),
        None,
        "train ids on which the distance is taken; None takes all pixels",
        none=True,
    ),
    "imnet_feature_dist_scale_min_ratio": Key(SHARE, None, "least share of its class in a label cell", none=True),
    "mix": Key(Choice(("class",)), "class", "how source and target are mixed"),
    "blur": Key(Flag(), True, "blur the mixed image in half of the iterations"),
    "color_jitter_strength": Key(Number(0, 0.5), 0.2, "half-width of the jitter's factors; hue in turns"),
    "color_jitter_probability": Key(SHARE, 0.2, "jitter when a uniform draw exceeds it"),
    "debug_img_interval": Key(Whole(-1), 1000, "iterations between pictures of the step; 0 or -1 for none"),
    "cyclegan_itrd2en_path": Key(
        PathText(rooted=True, empty=True), "", "weights of the generator; '' takes the image change as it is"
    ),
    "forward_cfg": Key(FORWARD, {}, "weights of the losses"),
    "mixed_image_to_mixed_isr": Key(Flag(), True, "extract the content map of the mixed image, do not paste"),
    "random_choice_thres": Key(CHOICE_THRESHOLD, "0.5", "value that a draw must exceed for events to feed the teacher"),
    "shift_type": SHIFT_TYPE,
    "isr_parms": ISR_PARMS,
    "source_only": Key(Flag(), False, "train on the labelled source only"),
    "without_events": Key(Flag(), False, "always feed content maps to the teacher"),
    "without_isd": Key(Flag(), False, "always feed events to the teacher"),
    "isr_another_fusion": Key(Flag(), False, "fuse content maps by a module of their own"),
    "fuse_both_ice_and_e": Key(Flag(), False, "fuse image with events and image with content map in every pass"),
    "isr_no_fusion": Key(Flag(), False, "where the content map is drawn, nothing is fused"),
    "lambda_feature_consistency": Key(Number(0, 1000, off=-1), -1, "weight of the encoders' distance; -1 for 0.25"),
    "isr_edge": Key(Flag(), False, "content maps tell the edges of the label"),
    "isr_edge_class_weight": Key(
        Number(0, 1, above=True, below=True, off=-1), -1, "weight of the edges; -1 weighs all alike"
    ),
    "lambda_isr_features": Key(Number(0, 1000, off=-1), -1, "factor on the mixed images' feature distance"),
    "isr_mix_aug": Key(OFF, False, "augmentation of mixed content maps"),
    "isr_noise_dacs_type": Key(Off(("",), UNDESCRIBED), "", "noise on mixed content maps"),
    "shift_3_channel": Key(OFF, False, "another shift for each channel"),
    "sky_mask": Key(Off((None, False), "its masks of the sky were never published"), None, "masks of the sky"),
    "deflare_aug": Key(
        Off((False,), "its night images without glare (image_deflare) were never published"), False, "no glare"
    ),
    "img_self_res_reg": Key(Unread(), None, "nothing", none=True, unread=True),
    "print_grad_magnitude": Key(Unread(), None, "nothing", none=True, unread=True),
}
OPTIMIZER = Section(
    {
        "type": Key(Choice(("AdamW", "Adam", "SGD")), REQUIRED, "the optimiser"),
        "lr": Key(Number(0, 10, above=True), REQUIRED, "learning rate"),
        "weight_decay": Key(Number(0, 100), 0.0, "weight decay"),
        "betas": Key(ListOf(Number(0, 1, below=True), 2, 2), (0.9, 0.999), "decay of the moments (Adam, AdamW)"),
        "eps": Key(Number(0, 1, above=True), 1e-8, "added to the denominator (Adam, AdamW)"),
        "momentum": Key(Number(0, 1, below=True), 0.0, "momentum (SGD)"),
        "paramwise_cfg": Key(
            Section(
                {
                    "custom_keys": Key(
                        MapOf(
                            Section(
                                {
                                    "lr_mult": Key(Number(0, 1e4, above=True), 1.0, "factor on the learning rate"),
                                    "decay_mult": Key(Number(0, 1e4), 1.0, "factor on the weight decay"),
                                }
                            )
                        ),
                        {},
                        "piece of a parameter's name -> its factors; the longest piece counts",
                    )
                }
            ),
            None,
            "settings by parameter",
            none=True,
        ),
    }
)
SCHEDULE = Section(
    {
        "policy": Key(Choice(("poly",)), REQUIRED, "polynomial decay"),
        "warmup": Key(Choice(("linear",)), None, "warm-up", none=True),
        "warmup_iters": Key(Whole(0), None, "iterations of the warm-up", none=True),
        "warmup_ratio": Key(SHARE, None, "share of the learning rate that the warm-up begins with", none=True),
        "power": Key(Number(0, 10), 1.0, "exponent of the decay"),
        "min_lr": Key(Number(0, 10), 0.0, "learning rate at the end"),
        "by_epoch": Key(Choice((False,)), False, "by iteration", none=True),
    }
)
HOOK = {
    "by_epoch": Key(Flag(), False, "nothing"),
    "interval": Key(Whole(1), 50, "nothing: log_config.interval is read"),
}
HOOKS: dict[str, dict[str, Key]] = {
    "TextLoggerHook": HOOK,
    "TensorboardLoggerHook": {**HOOK, "log_dir": Key(PathText(), None, "nothing", none=True)},
    "WandbLoggerHook": {**HOOK, "init_kwargs": Key(MapOf(Unread()), None, "arguments of wandb.init", none=True)},
    "MlflowLoggerHook": {**HOOK, "exp_name": Key(Text(), None, "name of the experiment", none=True)},
}
UNREAD = Key(Unread(), None, "nothing", none=True, unread=True)

CONFIG = Section(
    {
        "model": Key(MODELS, None, "the network"),
        "data": Key(DATA, None, "the data sets"),
        "uda": Key(Variants("adaptation method", {"DACS": METHOD}), None, "the training method"),
        "optimizer": Key(OPTIMIZER, None, "the optimiser"),
        "lr_config": Key(SCHEDULE, None, "the learning-rate schedule"),
        "runner": Key(
            Section(
                {
                    "type": Key(Choice(("IterBasedRunner",)), "IterBasedRunner", "by iteration", none=True),
                    "max_iters": Key(Whole(1), REQUIRED, "iterations of the training"),
                }
            ),
            None,
            "the length of the training",
        ),
        "checkpoint_config": Key(
            Section(
                {
                    "by_epoch": Key(Choice((False,)), False, "by iteration", none=True),
                    "interval": Key(INTERVAL, 4000, "iterations between checkpoints; 0 for none"),
                    "max_keep_ckpts": Key(Whole(1), None, "how many are kept; None keeps all", none=True),
                }
            ),
            None,
            "the checkpoints",
            none=True,
        ),
        "evaluation": Key(
            Section(
                {
                    "interval": Key(INTERVAL, 4000, "iterations between evaluations; 0 for none"),
                    "metric": Key(Choice(("mIoU", ["mIoU"])), "mIoU", "nothing: every score is taken", none=True),
                    "save_best": Key(
                        Choice((True, False, "mIoU", "mIoU_18", "mAcc", "aAcc")),
                        None,
                        "keep the best by a score; None and True take the headline score",
                        none=True,
                    ),
                }
            ),
            None,
            "the evaluations of a training",
            none=True,
        ),
        "log_config": Key(
            Section(
                {
                    "interval": Key(Whole(1), 50, "iterations between lines of the log"),
                    "hooks": Key(
                        Sections(Variants("logger hook", HOOKS), 16), [], "where numbers and pictures go", none=True
                    ),
                }
            ),
            None,
            "the logs",
            none=True,
        ),
        "log_level": Key(Choice(("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")), "INFO", "least level of lines"),
        "name": Key(Text("the name of the run"), "run", "name of the run"),
        "work_dir": Key(PathText(empty=True), None, "folder of the run", none=True),
        "load_from": Key(PathText(empty=True), None, "checkpoint to start from", none=True),
        "resume_from": Key(PathText(empty=True), None, "checkpoint or work dir to go on from, or 'auto'", none=True),
        "seed": Key(Whole(0, 2**32 - 1), 0, "seed of all draws", none=True),
        "precision": Key(
            Choice(("fp32", "tf32", "bf16", "fp16")), "fp32", "number format of the networks' products", none=True
        ),
        "compile": Key(Flag(), False, "compile the networks with torch.compile", none=True),
        "cuda_graphs": Key(Choice(("auto", True, False)), "auto", "replay a step's kernels as CUDA graphs"),
        "cudnn_benchmark": Key(Flag(), False, "let cuDNN try which of its kernels is fastest", none=True),
        "deterministic": Key(Flag(), False, "take kernels whose sums have one order", none=True),
        "gradient_checkpointing": Key(Flag(), False, "compute activations twice to save memory", none=True),
        "micro_batch": Key(Whole(1, 4096), None, "samples that the student sees at a time", none=True),
        "sync_bn": Key(Flag(), False, "batch norm over the samples of all processes", none=True),
        "exp": Key(Text("a text", r".*"), "", "name of the list of experiments", none=True),
        "git_rev": Key(Text("a text", r".*"), "", "revision of the code", none=True),
        "n_gpus": Key(
            Off(
                (1,),
                "a training runs on as many GPUs as it has processes, torchrun --nproc_per_node N tools/train.py "
                "CONFIG --launcher pytorch",
            ),
            1,
            "nothing",
        ),
        "optimizer_config": Key(
            Off((None, {}), "hooks of the optimizer belong to a framework that is gone"), None, "nothing"
        ),
        "norm_cfg": Key(BATCH_NORM, None, "nothing: the model names its own", none=True, unread=True),
        # Published configs carry these; nothing reads them, in the reference either or because its frameworks are gone.
        **{
            name: UNREAD
            for name in (
                *("dist_params", "events_bins", "find_unused_parameters", "name_architecture", "name_dataset"),
                *("name_decoder", "name_encoder", "name_opt", "name_uda", "pretrained_type", "train_type"),
                *("use_ddp_wrapper", "workflow"),
            )
        },
    }
)
# Of a published folder, a test reads only these; the switches of its training do not concern it.
TEST_CONFIG = Section(
    {
        "model": CONFIG.keys["model"],
        "data": Key(Section({name: DATA.keys[name] for name in ("workers_per_gpu", "test")}), None, "the data sets"),
    }
)
# Keys that nothing reads; a resumed training may have others.
IGNORED_KEYS = tuple(dict.fromkeys(name for name, key in walk(CONFIG) if key.unread))
# Paths of data and weights, which are re-rooted when a config comes from another machine.
DATA_PATH_KEYS = tuple(
    dict.fromkeys(name for name, key in walk(CONFIG) if isinstance(key.kind, PathText) and key.kind.rooted)
)
# Sections whose lists name data by paths of their own, which are looked for below a root.
LIST_SECTIONS = ("data.train.target", "data.val", "data.test")
# Folders of the project that a path of another machine is cut at.
ANCHORS = ("data", "pretrained")
