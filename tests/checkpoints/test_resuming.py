"""Where an epoch goes on: exact with the same loader, nothing lost with another, and it is said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from las_mm.checkpoints.resuming import LoaderRecord, batches_done


def record(length, samples, done=0, sampler='DefaultSampler', drop_last=False):
    batches = length // samples if drop_last else -(-length // samples)
    return LoaderRecord(max(1, batches), samples, length, sampler, done)


@given(
    length=st.integers(1, 60),
    before=st.integers(1, 9),
    now=st.integers(1, 9),
    share=st.floats(0, 1),
    grown=st.integers(0, 5),
    other_sampler=st.booleans(),
    epoch=st.integers(0, 5),
    drop_last=st.booleans(),
)
def test_no_sample_of_an_epoch_is_lost(
    length, before, now, share, grown, other_sampler, epoch, drop_last
):
    saved = record(length, before, drop_last=drop_last)
    done_before = int(share * saved.batches)
    saved = record(length, before, done_before, drop_last=drop_last)
    sampler = 'Other' if other_sampler else 'DefaultSampler'
    loader = record(length + grown, now, sampler=sampler, drop_last=drop_last)
    done, line = batches_done(saved, loader, epoch, epoch * saved.batches + done_before)
    same = before == now and not grown and not other_sampler
    assert (line is None) == same
    if same:
        assert done == done_before
    elif done_before in (0, saved.batches):
        assert done == (loader.batches if done_before else 0)
    elif grown or other_sampler:
        assert done == 0
    else:
        assert done * now <= done_before * before, 'what was not trained on is left out'
        assert done_before * before - done * now < now
    assert 0 <= done <= loader.batches


@pytest.mark.parametrize(('iteration', 'said'), [(24, False), (25, True), (8, True), (0, True)])
def test_a_checkpoint_that_says_nothing_goes_on_with_a_whole_epoch(iteration, said):
    done, line = batches_done(None, record(8, 1), epoch=3, iteration=iteration)
    assert done == 0
    assert (line is not None) == said
    assert not said or 'epoch 4 starts anew' in line


def test_it_is_kept_in_plain_types():
    saved = record(8, 2, done=3)
    assert LoaderRecord(**saved.to_dict()) == saved
    assert all(isinstance(value, (int, str)) for value in saved.to_dict().values())
