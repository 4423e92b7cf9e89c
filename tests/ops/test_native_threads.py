"""Native inference among threads, forks and a thousand forwards: the same bits, no growth."""

import gc
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from forks import start_child, wait_for
from random_blocks import randomize
from torch import nn

import las_mm
from las_mm.executors import find_executor
from las_mm.inference.stage import InferenceStage
from las_mm.inference.stand_ins import stand_in
from las_mm.layers import DynamicBasicBlock, DynamicBottleneck
from las_mm.models.resnet_torch import TorchLASResNet
from las_mm.ops.fork import fork as fork_gradients
from las_mm.ops.native import build

native, why_not = build.load_native()
if native is None:
    pytest.skip(why_not, allow_module_level=True)


@pytest.fixture
def threads():
    """A function that sets PyTorch's number of threads, for the test alone."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def make_network(seed=0, squeeze=0):
    """A stem and two optimized stages, narrow, with every kind of block."""
    torch.manual_seed(seed)
    executor = find_executor('cpu')
    blocks = [
        DynamicBottleneck(16, 16, 32, 2, squeeze_channels=squeeze),
        DynamicBottleneck(32, 16, 32, 2),
        DynamicBottleneck(32, 8, 32, 1, groups=2),
        DynamicBasicBlock(32, 24, 2, stride=2),
        DynamicBasicBlock(24, 24, 2),
    ]
    for index, block in enumerate(blocks):
        block.executor, block.name = executor, f'layer1.{index}'
        randomize(block, seed + index)
    stages = [nn.Sequential(*part) for part in (blocks[:3], blocks[3:])]
    for stage in stages:
        stand_in(stage, InferenceStage)
    return nn.Sequential(*stages).eval()


def images(seed, size=24):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1 + seed % 2, 16, size, size + seed % 3, generator=generator)


def large_network():
    """A whole optimized network, whose PyTorch parts take several threads, too, and its input."""
    net = randomize(TorchLASResNet(18, '2-2-2-1'))
    return las_mm.optimize_for_inference(net), torch.randn(2, 3, 96, 128)


def train_step():
    x = torch.randn(4, 32, 24, 24, requires_grad=True)
    sum(part.sum() for part in fork_gradients(x, 2)).backward()
    return x.grad


@torch.no_grad()
def test_a_child_runs_what_its_parent_has_run(threads):
    net, x = large_network()
    a = torch.randn(300, 300)
    threads(3)
    wanted, product = net(x), a @ a

    @torch.no_grad()
    def run():
        return all(map(torch.equal, net(x), wanted)) and torch.allclose(a @ a, product, atol=1e-3)

    def run_as_grandchild():
        wait_for(start_child(run))
        return run()

    def run_in_threads():
        torch.set_num_threads(3)  # renews a pool of PyTorch's, which threads of a child trip over
        with ThreadPoolExecutor(2) as pool:
            return all(pool.map(lambda _: run(), range(4)))

    for work in (run, run_as_grandchild, run_in_threads, run):
        wait_for(start_child(work))
        assert run(), 'the parent goes on'
    with ThreadPoolExecutor(1) as pool:  # forked from a thread that has computed, too
        assert pool.submit(run).result()
        wait_for(pool.submit(start_child, run).result())


def test_a_child_trains_where_its_parent_has_trained(threads):
    threads(3)
    train_step()

    def train():
        return bool(torch.isfinite(train_step()).all())

    wait_for(start_child(train))
    assert train()


@torch.no_grad()
def test_a_fork_while_another_thread_runs_and_packs(threads):
    threads(2)
    # Made before: PyTorch's random generator, which the other thread may hold, survives no fork.
    net, fresh, x = make_network(), make_network(), images(0)
    wanted, done = net(x), threading.Event()

    @torch.no_grad()
    def keep_packing():
        while not done.is_set():
            make_network(1)(x)

    @torch.no_grad()
    def run():
        return torch.equal(net(x), wanted) and torch.equal(fresh(x), wanted)

    thread = threading.Thread(target=keep_packing)
    thread.start()
    try:
        for _ in range(5):
            wait_for(start_child(run))
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize('shared', [True, False], ids=['one network', 'a network each'])
@torch.no_grad()
def test_threads_get_the_bits_that_one_alone_gets(shared, threads):
    threads(1)
    networks = [make_network(0 if shared else seed, seed % 2 * 4) for seed in range(4)]
    wanted = [[net(images(index)) for index in range(6)] for net in networks]
    fresh = [make_network(0 if shared else seed, seed % 2 * 4) for seed in range(4)]
    start, end = threading.Barrier(6), time.monotonic() + 1.5

    @torch.no_grad()
    def hammer(worker):
        torch.set_num_threads(1 + worker % 3)
        start.wait()
        rounds = 0
        while time.monotonic() < end or rounds < 10:
            which = rounds % 2 if shared else (worker + rounds) % 4
            index = (worker + rounds // 2) % 6
            if rounds % 50 == 49:
                torch.set_num_threads(1 + rounds // 50 % 3)
            if not torch.equal(fresh[which](images(index)), wanted[which][index]):
                return f'round {rounds}, network {which}, images {index}'
            rounds += 1
        return None

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(hammer, range(6))) == [None] * 6


@torch.no_grad()
def test_weights_that_change_between_forwards_of_many_threads():
    net, x = make_network(), images(1)
    with ThreadPoolExecutor(4) as pool:
        for seed in range(15):
            net.load_state_dict(make_network(seed).state_dict())
            wanted = make_network(seed)(x)
            run = torch.no_grad()(lambda _: net(x))
            assert all(torch.equal(out, wanted) for out in pool.map(run, range(8))), seed


def resources():
    """(memory in MB, threads, open files) of this process."""
    gc.collect()
    pages = int(open('/proc/self/statm').read().split()[1])  # noqa: SIM115
    return (
        pages * os.sysconf('SC_PAGE_SIZE') / 2**20,
        len(os.listdir('/proc/self/task')),
        len(os.listdir('/proc/self/fd')),
    )


def assert_no_growth(work, warm_up, rounds):
    for index in range(warm_up):
        work(index)
    before = resources()
    for index in range(rounds):
        work(index)
    after = resources()
    assert after[0] <= before[0] + 3 and after[1:] == before[1:], (before, after)


@torch.no_grad()
def test_a_thousand_forwards_of_many_sizes_do_not_grow():
    net = make_network()
    assert_no_growth(lambda i: net(images(i, 16 + i % 29)), 60, 1000)


@torch.no_grad()
def test_packing_again_and_again_does_not_grow():
    net, x = make_network(), images(0)

    def change(index):
        net[index // 10 % 2][index // 20 % 2].conv1.weight.mul_(1.001)
        net(x)

    assert_no_growth(change, 60, 500)


@torch.no_grad()
def test_networks_and_threads_that_come_and_go_leave_nothing(threads):
    threads(2)

    def come_and_go(index):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(torch.no_grad()(lambda: make_network(index)(images(index)))).result()

    assert_no_growth(come_and_go, 30, 80)
