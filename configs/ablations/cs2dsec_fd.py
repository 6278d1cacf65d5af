# CMDA with the ImageNet feature distance (--feature_dist 0.005).
_base_ = ["../fusion/cs2dsec_image+events_together_b5.py"]
uda = dict(imnet_feature_dist_lambda=0.005)
name = "cs2dsec_fd"
