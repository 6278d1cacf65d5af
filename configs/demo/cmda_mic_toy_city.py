# CMDA with masked image consistency on the toy city: image, events and content map hide the same cells.
_base_ = ["./cmda_toy_city.py"]
# a sixteenth of the side of a sample, as in MIC
uda = dict(masking=dict(ratio=0.7, block=16, mode="target_aug", shared=True))
name = "cmda_mic_toy_city"
