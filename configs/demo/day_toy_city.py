# The network toy_day.pth, from which the other trainings on the toy city start: 4,000 iterations on the labelled days
# of 1,400 other streets, evaluated on days. It was trained on a GPU, in bf16, on
# python tools/make_toy_data.py POOL --seed 1000 --day 1400 --night-streets 1 --test-streets 1 --substeps 4
# and converted by benchmarks/toy_day_network.py.
_base_ = ["./source_only_toy_city.py"]
load_from = None
days = dict(
    _delete_=True,
    type="FramesDataset",
    manifest="data/toy_city/day_val.jsonl",
    image_resize_size=(512, 256),
    outputs=["image", "label"],
)
data = dict(samples_per_gpu=8, workers_per_gpu=12, val=days, test=days)
del days
optimizer = dict(lr=6e-4)
lr_config = dict(warmup_iters=100)
runner = dict(max_iters=4000)
evaluation = dict(interval=2000)
checkpoint_config = dict(interval=4000)
log_config = dict(interval=50)
name = "day_toy_city"
