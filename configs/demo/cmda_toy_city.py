# CMDA on the toy city: the published method at a size for two CPU cores.
_base_ = ["./source_only_toy_city.py"]
uda = dict(source_only=False)
name = "cmda_toy_city"
