"""The keys of a config: which there are, what they take, and which older configs carry though nothing reads them."""

from __future__ import annotations

from typing import Any

TOP_LEVEL_KEYS = {
    "checkpoint_config",
    "compile",
    "cuda_graphs",
    "cudnn_benchmark",
    "data",
    "deterministic",
    "evaluation",
    "exp",
    "git_rev",
    "gradient_checkpointing",
    "load_from",
    "log_config",
    "log_level",
    "lr_config",
    "micro_batch",
    "model",
    "name",
    "optimizer",
    "precision",
    "resume_from",
    "runner",
    "seed",
    "sync_bn",
    "uda",
    "work_dir",
}
SECTION_KEYS: dict[str, set[str]] = {
    "checkpoint_config": {"by_epoch", "interval", "max_keep_ckpts"},
    "data": {"samples_per_gpu", "workers_per_gpu", "train", "val", "test"},
    "evaluation": {"interval", "metric", "save_best"},
    "log_config": {"interval", "hooks"},
    "lr_config": {"policy", "warmup", "warmup_iters", "warmup_ratio", "power", "min_lr", "by_epoch"},
    "optimizer": {"type", "lr", "betas", "weight_decay", "eps", "momentum", "paramwise_cfg"},
    "runner": {"type", "max_iters"},
    "model.decode_head.decoder_params": {
        "embed_dims",
        "embed_cfg",
        "embed_neck_cfg",
        "fusion_cfg",
        "train_type",
        "share_decoder",
        "half_share_decoder",
    },
    "model.decode_head.decoder_params.fusion_cfg": {"type", "sep", "dilations", "pool", "act_cfg", "norm_cfg"},
    "model.test_cfg": {"mode", "crop_size", "stride"},
    "uda.forward_cfg": {"loss_weight"},
    "optimizer.paramwise_cfg": {"custom_keys"},
}
# Values that are honoured, where there is a choice elsewhere.
ONLY_VALUES: dict[str, tuple[Any, ...]] = {
    "runner.type": (None, "IterBasedRunner"),
    "norm_cfg.type": (None, "BN"),
    "model.decode_head.norm_cfg.type": (None, "BN"),
    "checkpoint_config.by_epoch": (None, False),
    "log_level": (None, "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
    "precision": (None, "fp32", "tf32", "bf16", "fp16"),
    "compile": (None, False, True),
    "cuda_graphs": (None, "auto", False, True),
    "deterministic": (None, False, True),
    "evaluation.save_best": (None, True, False, "mIoU", "mIoU_18", "mAcc", "aAcc"),
    "gradient_checkpointing": (None, False, True),
    "sync_bn": (None, False, True),
}
# Whole numbers and their least values.
WHOLE_NUMBERS = {
    "runner.max_iters": 1,
    "data.samples_per_gpu": 1,
    "data.workers_per_gpu": 0,
    "seed": 0,
    "micro_batch": 1,
    "evaluation.interval": 0,
    "checkpoint_config.interval": 0,
    "log_config.interval": 1,
}
# What kind of value a key takes, where another one would be met as an error of Python. None is left to later checks.
SECTIONS = (
    "checkpoint_config",
    "data",
    "data.train",
    "data.train.source",
    "data.train.target",
    "data.val",
    "data.test",
    "evaluation",
    "log_config",
    "lr_config",
    "model",
    "model.backbone",
    "model.backbone_image",
    "model.backbone_events",
    "model.fusion_module",
    "model.fusion_isr_module",
    "model.decode_head",
    "model.decode_head.decoder_params",
    "model.decode_head.decoder_params.fusion_cfg",
    "model.decode_head.loss_decode",
    "model.decode_head.norm_cfg",
    "model.test_cfg",
    "model.train_cfg",
    "norm_cfg",
    "optimizer",
    "optimizer.paramwise_cfg",
    "optimizer.paramwise_cfg.custom_keys",
    "runner",
    "uda",
    "uda.forward_cfg",
    "uda.forward_cfg.loss_weight",
)
LISTS = (
    "data.train.source.outputs",
    "data.train.target.outputs",
    "data.val.outputs",
    "data.test.outputs",
    "log_config.hooks",
)
NUMBERS = (
    "lr_config.min_lr",
    "lr_config.power",
    "lr_config.warmup_iters",
    "lr_config.warmup_ratio",
    "optimizer.lr",
    "optimizer.weight_decay",
    "uda.alpha",
    "uda.imnet_feature_dist_lambda",
    "uda.pseudo_threshold",
)
TEXTS = (
    "load_from",
    "name",
    "resume_from",
    "work_dir",
    "uda.train_type",
    "model.train_type",
    "model.decode_head.decoder_params.train_type",
)
# Of a published folder, a test reads these alone; the switches of its training do not concern it.
TEST_KEYS = ("model", "data")
# Published configs carry these; nothing reads them, in the reference either or because its frameworks are gone.
IGNORED_KEYS = (
    "dist_params",
    "events_bins",
    "find_unused_parameters",
    "name_architecture",
    "name_dataset",
    "name_decoder",
    "name_encoder",
    "name_opt",
    "name_uda",
    "norm_cfg",
    "pretrained_type",
    "train_type",
    "uda.img_self_res_reg",
    "uda.print_grad_magnitude",
    "use_ddp_wrapper",
    "workflow",
)
# Switches that nothing here can honour: key -> (values that mean off, why). The off values are accepted and dropped.
_UNDESCRIBED = "what it computes is described nowhere"
OFF_VALUES: dict[str, tuple[tuple[Any, ...], str]] = {
    "n_gpus": (
        (1,),
        "a training runs on as many GPUs as it has processes, torchrun --nproc_per_node N tools/train.py CONFIG "
        "--launcher pytorch",
    ),
    "optimizer_config": ((None, {}), "hooks of the optimizer belong to a framework that is gone"),
    "uda.forward_cfg.gradual_rate": ((0, 0.0), _UNDESCRIBED),
    "uda.isr_mix_aug": ((False,), _UNDESCRIBED),
    "uda.isr_noise_dacs_type": (("",), _UNDESCRIBED),
    "uda.shift_3_channel": ((False,), _UNDESCRIBED),
    "uda.sky_mask": ((None, False), "its masks of the sky were never published"),
    "uda.deflare_aug": ((False,), "its night images without glare (image_deflare) were never published"),
    "data.train.source.isr_noise": ((False,), _UNDESCRIBED),
    "data.train.source.isr_cow_mask": ((False,), _UNDESCRIBED),
    "data.train.source.shift_3_channel": ((False,), _UNDESCRIBED),
    "data.train.source.random_flare": ((None, False), "its pictures of flares were never published"),
    "data.train.target.shift_3_channel": ((False,), _UNDESCRIBED),
    "data.train.target.auto_threshold": ((False,), _UNDESCRIBED),
}
# Keys that hold paths; those of data and weights are re-rooted when a config comes from another machine.
DATA_PATH_KEYS = (
    "data.train.source.dataset_path",
    "data.train.target.dataset_path",
    "data.train.target.dataset_txt_path",
    "data.train.source_json_root",
    "data.val.dataset_path",
    "data.val.dataset_txt_path",
    "data.test.dataset_path",
    "data.test.dataset_txt_path",
    "data.train.source.cache",
    "data.train.target.cache",
    "data.val.cache",
    "data.test.cache",
    "model.pretrained",
    "uda.cyclegan_itrd2en_path",
)
# Sections whose lists name data by paths of their own, which are looked for below a root.
LIST_SECTIONS = ("data.train.target", "data.val", "data.test")
# Folders of the project that a path of another machine is cut at.
ANCHORS = ("data", "pretrained")
