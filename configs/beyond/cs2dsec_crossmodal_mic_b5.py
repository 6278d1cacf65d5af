# CMDA with cross-modal masking, Cityscapes to DSEC_Night: image, events and content map hide different cells.
_base_ = ["./cs2dsec_mic_b5.py"]
uda = dict(masking=dict(shared=False))
name = "cs2dsec_crossmodal_mic_b5"
