# CMDA on the toy city's Dark Zurich tree: the published method at a size for two CPU cores.
_base_ = ["./source_only_toy_dark_zurich.py"]
uda = dict(source_only=False)
name = "cmda_toy_dark_zurich"
