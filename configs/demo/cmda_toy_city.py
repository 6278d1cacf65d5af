# CMDA on the toy city: the published method at a size for two CPU cores. Start it from the source-only run:
# --cfg-options load_from=work_dirs/local-basic/<source-only run>/iter_350.pth
# Besides sizes, some settings follow from them: there are no ImageNet and no generator weights, so the network starts
# from the source-only run and takes the image change as day events; and a few hundred iterations need a higher learning
# rate, a teacher with a shorter memory, and a lower confidence.
_base_ = ["./source_only_toy_city.py"]
uda = dict(source_only=False)
runner = dict(max_iters=400)
lr_config = dict(warmup_iters=10)
evaluation = dict(interval=100)
checkpoint_config = dict(interval=400)
name = "cmda_toy_city"
