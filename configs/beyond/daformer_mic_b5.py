# MIC on images only, Cityscapes to DSEC_Night: DAFormer with its feature distance, and masked target images.
_base_ = ["../baselines/cs2dsec_image_fd_b5.py"]
uda = dict(masking=dict(ratio=0.7, block=32, mode="target_aug"))
name = "daformer_mic_b5"
