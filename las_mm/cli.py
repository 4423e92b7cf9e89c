"""What the command lines of tools/ share: arguments, configs and one-line errors."""

import argparse
import errno
import gc
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import torch
import torch.distributed as dist
from mmengine import device
from mmengine.config import Config, DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from las_mm.checkpoints.loading import TRUST
from las_mm.config.frameworks import read_config, require_model
from las_mm.config.shipped import find_config
from las_mm.config_parts import type_name
from las_mm.files import write_whole

USER_ERRORS = (ValueError, TypeError, OSError, KeyError, ImportError, URLError)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def run_cli(main: Callable[[], None]) -> None:
    """Run ``main``; an error becomes one line on stderr and exit code 2.

    An error with a ``hint`` gets that as a second line. Of one that no check foresaw, such as a
    framework's own, the traceback is kept in a file. ``LAS_MM_DEBUG=1`` shows it instead.
    """
    debug = os.environ.get('LAS_MM_DEBUG') == '1'
    logging.raiseExceptions = debug  # a log on a full disk must not bury that line
    try:
        main()
        _leave_processes()
    except USER_ERRORS as error:
        if debug:
            raise
        print(f'{Path(sys.argv[0]).name}: error: {one_line(error)}', file=sys.stderr)
        if hasattr(error, 'hint'):
            print(error.hint, file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        if debug:
            raise
        what = 'data' if _is_about_data(error) else type(error).__name__
        line = f'{what}: {one_line(error)}; {_keep_traceback(error)}'
        print(f'{Path(sys.argv[0]).name}: error: {line}', file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print('interrupted; go on with --resume', file=sys.stderr)
        sys.exit(130)


def _keep_traceback(error: Exception) -> str:
    """Write where an error arose that no check of ours foresaw; returns where that is written."""
    path = Path(tempfile.gettempdir()) / f'{Path(sys.argv[0]).stem}_error_{os.getpid()}.txt'
    try:
        write_whole(path, ''.join(traceback.format_exception(error)))
    except OSError:
        return 'LAS_MM_DEBUG=1 shows where it arose'
    return f'where it arose is in {path}'


def _is_about_data(error: Exception) -> bool:
    """Whether an error arose where a data set is made or a sample is loaded."""
    if 'in DataLoader worker process' in str(error):
        return True
    frames = (frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__))
    places = {(Path(code.co_filename).name, code.co_name) for code in frames}
    return bool(places & {('fetch.py', 'fetch'), ('runner.py', 'build_dataloader')})


def _leave_processes() -> None:
    """End a distributed run together, and the threads of gloo before the interpreter ends.

    One that then still wants its lock aborts the process. They live as long as a model knows the
    group, and a runner and its hooks know each other: only the collector finds them.
    """
    if dist.is_available() and dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
        gc.collect()


def one_line(error: BaseException) -> str:
    """The message of ``error`` without what registries put around it."""
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    if isinstance(error, OSError) and error.errno in FULL:
        place = repr(error.filename) if error.filename else 'the log, or another file'
        return f'{error.strerror}: {place} cannot be written; make room, then go on with --resume'
    # A data loader's worker sends its whole traceback, which ends in "SomeError: message".
    if 'Original Traceback' in text:
        text = text.strip().splitlines()[-1].partition(': ')[2]
    # mmengine's registries prefix "class `X` in some/file.py: ".
    marker = '.py: '
    if text.startswith('class `') and marker in text:
        text = text[text.rindex(marker) + len(marker) :]
    return ' '.join(text.split()) or type(error).__name__


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that training and testing share."""
    parser.add_argument('--work-dir', help='folder of logs, checkpoints and reports')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override entries of the config, such as model.backbone.granularity=4-4-2-1; '
        'lists as key="[a,b]", without spaces',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher',
    )
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='unpickle everything in the checkpoint; only if you trust its source',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def load_config(args: argparse.Namespace) -> Config:
    """The config named on the command line, with what the common flags change in it.

    Raises:
        FileNotFoundError: If there is no such config.
        ValueError: If it cannot be read, needs a framework that is not installed, or has no model.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if args.trust_checkpoint:
        os.environ[TRUST] = '1'
    cfg = read_config(find_config(args.config), args.cfg_options)
    require_model(cfg)
    cfg.launcher = args.launcher
    if args.work_dir:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    return cfg


def require_loader(cfg: Config, name: str) -> None:
    """Check that a config has a data loader, which mmengine would miss in several lines.

    Raises:
        ValueError: If it has none.
    """
    if not cfg.get(name):
        raise ValueError(f'{name}: the config has none; add one, such as {name}=dict(dataset=...)')


def set_amp(cfg: Config) -> None:
    """Train in mixed precision.

    Raises:
        ValueError: If there is no GPU, which mmengine's mixed precision needs, or no optimizer.
    """
    if not torch.cuda.is_available():
        raise ValueError('--amp: mixed precision needs a GPU, and there is none; leave --amp out')
    if not cfg.get('optim_wrapper'):
        raise ValueError('--amp: the config has no optim_wrapper; add one with its optimizer')
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def check_amp(cfg: Config) -> None:
    """Refuse a config's mixed precision where mmengine would, but in one line.

    Raises:
        ValueError: If there is no device for it.
    """
    amp = type_name(cfg.get('optim_wrapper') or {}).endswith('AmpOptimWrapper')
    if amp and device.get_device() == 'cpu':
        raise ValueError(
            "optim_wrapper.type: got 'AmpOptimWrapper', but mixed precision needs a GPU, and there "
            "is none; use 'OptimWrapper'"
        )


def distribute_on_cpu(cfg: Config) -> None:
    """Join the launcher's processes by gloo; mmengine's own way asks for a GPU."""
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')
    cfg.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )


def build_runner(cfg: Config) -> Runner:
    """The runner that the config asks for.

    On a CPU, denormal numbers are flushed to zero: gradients full of them made training from
    scratch up to twice as slow.
    """
    if not torch.cuda.is_available():
        torch.set_flush_denormal(True)
        if cfg.get('launcher') == 'pytorch':
            distribute_on_cpu(cfg)
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
