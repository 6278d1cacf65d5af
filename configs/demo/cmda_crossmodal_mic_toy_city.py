# CMDA with cross-modal masking on the toy city: image, events and content map hide different cells.
_base_ = ["./cmda_mic_toy_city.py"]
uda = dict(masking=dict(shared=False))
name = "cmda_crossmodal_mic_toy_city"
