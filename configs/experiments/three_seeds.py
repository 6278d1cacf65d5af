# The published configuration with three seeds, to show how much the seed matters.
experiments = [dict(base_config="configs/fusion/cs2dsec_image+events_together_b5.py", name="cs2dsec_cmda")]
seeds = [0, 1, 2]
