# CMDA with masked image consistency, Cityscapes to Dark Zurich; as MIC does there, a source sample is masked as well.
_base_ = ["../fusion/cs2dz_image+raw-isr_b5.py"]
uda = dict(masking=dict(ratio=0.7, block=32, mode="separate", shared=True))
name = "cs2dz_mic_b5"
