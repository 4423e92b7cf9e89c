# As las_r50_4-4-2-1_demo.py, but blocks are skipped as a whole (LAUDNet); not in make demo.
_base_ = './las_r50_4-4-2-1_demo.py'

model = dict(backbone=dict(granularity='all'))
