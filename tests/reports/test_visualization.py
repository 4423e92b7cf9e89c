"""Pictures of masks."""

import numpy as np
import pytest
import torch

from las_mm.reports.masks import DIMMED, dim_skipped, draw_grid, mask_panels


@pytest.fixture(scope='module')
def traces(backbone):
    with torch.no_grad():
        backbone(torch.rand(2, 3, 64, 96))
    return backbone.traces


def test_computed_stays_bright_and_skipped_is_dimmed():
    image = np.full((2, 2, 3), 200, np.uint8)
    drawn = dim_skipped(image, np.array([[1.0, 0.0], [0.5, 1.0]]))
    assert (drawn[0, 0] == 200).all()
    assert (drawn[0, 1] == round(200 * DIMMED)).all()
    assert drawn[0, 1, 0] < drawn[1, 0, 0] < 200


def test_one_panel_per_stage_or_block_with_its_rate(traces):
    image = np.full((64, 96, 3), 255, np.uint8)
    stages = mask_panels(image, traces, 'stage', index=1)
    blocks = mask_panels(image, traces, 'block', index=1)
    assert [panel.title.split(',')[0] for panel in stages] == [f'layer{i}' for i in range(1, 5)]
    assert len(blocks) == len(traces)
    for panel, trace in zip(blocks, traces, strict=True):
        rate = trace.activation_rate[1].item()
        assert panel.title.endswith(f'r={rate:.2f}')
        assert (panel.image == 255).all(-1).mean() == pytest.approx(rate)


def test_unknown_level_is_refused(traces):
    with pytest.raises(ValueError, match='stage, block'):
        mask_panels(np.zeros((8, 8, 3), np.uint8), traces, 'pixel')


def test_grid_is_drawn_and_wrapped(traces, tmp_path):
    rows = [mask_panels(np.zeros((64, 96, 3), np.uint8), traces, 'block')] * 2
    figure = draw_grid(rows, columns=5)
    assert len(figure.axes) == 2 * 2 * 5
    figure.savefig(tmp_path / 'grid.png')
    assert (tmp_path / 'grid.png').stat().st_size > 1000
