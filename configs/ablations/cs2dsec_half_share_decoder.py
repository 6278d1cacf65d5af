# The streams share only the fuse layer of the decoder (--half_share_decoder).
_base_ = ["../fusion/cs2dsec_image+events_together_b5.py"]
model = dict(decode_head=dict(decoder_params=dict(share_decoder=False, half_share_decoder=True)))
name = "cs2dsec_half_share_decoder"
