# The same with the ImageNet feature distance of DAFormer.
_base_ = ["./cs2dz_image_b5.py"]
uda = dict(imnet_feature_dist_lambda=0.005)
name = "cs2dz_image_fd_b5"
