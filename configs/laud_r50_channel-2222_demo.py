# As las_r50_4-4-2-1_demo.py, but channels are skipped, two and two (LAUDNet); not in make demo.
_base_ = './las_r50_4-4-2-1_demo.py'

model = dict(backbone=dict(granularity=None, channel_groups='2-2-2-2', masker=dict(_delete_=True)))
