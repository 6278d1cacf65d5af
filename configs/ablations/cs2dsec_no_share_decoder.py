# A decoder for each stream (--no_share_decoder).
_base_ = ["../fusion/cs2dsec_image+events_together_b5.py"]
model = dict(decode_head=dict(decoder_params=dict(share_decoder=False)))
name = "cs2dsec_no_share_decoder"
