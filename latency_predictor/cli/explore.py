"""Commands ``sweep``, ``search`` and ``plot``."""

import argparse

from ..joint import search_joint
from ..network import NetworkSpec
from ..plots import (
    check_suffix,
    plot_frontier,
    plot_ratio_over_granularity,
    plot_ratio_over_rate,
    read_frontier,
    render,
)
from ..search import KNEE_TOLERANCE, search_granularity, sweep
from . import arguments as args
from .output import Answer, emit, write_whole


def add_parsers(subparsers: argparse._SubParsersAction) -> None:
    sweep_parser = subparsers.add_parser('sweep', help='r_l of every stage over grids of r and S')
    args.add_model(sweep_parser)
    args.add_network(sweep_parser, None)
    _add_grids(sweep_parser, '0.05:1:0.05')
    args.add_output(sweep_parser)
    sweep_parser.set_defaults(run=run_sweep)

    search = subparsers.add_parser('search', help='rank every S_net and find the knee')
    args.add_model(search)
    args.add_network(search, None)
    _add_grids(search, None)
    search.add_argument('--rate', type=float, default=0.5, help='activation rate r (default: 0.5)')
    search.add_argument(
        '--tolerance',
        type=float,
        default=KNEE_TOLERANCE,
        metavar='R_L',
        help='what a larger S must gain in r_l to be worth it (default: %(default)s)',
    )
    search.add_argument('--top', type=int, default=10, help='rows to print (default: 10)')
    args.add_channel_rate(search)
    args.add_output(search)
    search.set_defaults(run=run_search)

    plot = subparsers.add_parser('plot', help="draw the paper's figures")
    plot.add_argument(
        'figure',
        choices=('rate', 'granularity', 'frontier'),
        help='r_l over r (Figure 5), r_l over S (Figures 6, 10), accuracy over latency (Figure 7)',
    )
    args.add_model(plot)
    args.add_network(plot, None)
    _add_grids(plot, None)
    plot.add_argument(
        '--csv',
        dest='points',
        metavar='FILE',
        help='for frontier: columns label, latency_ms, accuracy',
    )
    plot.add_argument('--output', required=True, metavar='FILE', help='.png, .pdf or .svg')
    plot.set_defaults(run=run_plot)


def _add_grids(parser: argparse.ArgumentParser, rates: str | None) -> None:
    if parser.prog.split()[-1] != 'search':
        parser.add_argument(
            '--rates',
            default=rates,
            metavar='GRID',
            help='activation rates: 0.2,0.5 or start:stop:step',
        )
    parser.add_argument(
        '--candidates',
        metavar='S,S,...',
        help='granularities to try in every stage (default: those that cut the '
        "stage's map into whole patches)",
    )


def _candidates(arguments: argparse.Namespace, network: NetworkSpec) -> list[list[int]] | None:
    """S to try per stage, or None for the legal ones."""
    if arguments.candidates is None:
        return None
    sizes = args.numbers(arguments.candidates, '--candidates')
    if any(size != int(size) or size < 1 for size in sizes):
        raise ValueError(
            f'--candidates: got {arguments.candidates!r}; give integers >= 1 like 1,2,4'
        )
    largest = {b.stage: max(b.height, b.width) for b in network.conv_blocks}
    return [
        sorted({int(s) for s in sizes if s <= edge}) or [1] for _, edge in sorted(largest.items())
    ]


def run_sweep(arguments: argparse.Namespace) -> None:
    network = args.network(arguments)
    rates = args.numbers(arguments.rates, '--rates')
    rows = [
        (
            curves.device,
            curves.stage + 1,
            size,
            float(rate),
            curves.static_us,
            float(curves.dynamic_us[i, j]),
            float(curves.ratio[i, j]),
        )
        for model in args.models(arguments)
        for curves in sweep(model, network, rates, _candidates(arguments, network))
        for i, size in enumerate(curves.granularities)
        for j, rate in enumerate(curves.activation_rates)
    ]
    emit(
        Answer(
            f'Sweep of {network.name}',
            ('device', 'stage', 'S', 'r', 'static us', 'dynamic us', 'r_l'),
            rows,
        ),
        arguments.form,
        arguments.output,
    )


def run_search(arguments: argparse.Namespace) -> None:
    network = args.network(arguments)
    if arguments.top < 1:
        raise ValueError(f'--top: got {arguments.top}; give an integer >= 1')
    if arguments.tolerance < 0:
        raise ValueError(f'--tolerance: got {arguments.tolerance:g}; give a number >= 0')
    if arguments.mode not in ('spatial', 'joint'):
        raise ValueError(f'--mode: got {arguments.mode!r}; a search chooses of spatial, joint')
    if arguments.mode == 'joint':
        run_joint_search(arguments, network.static())
        return
    rows, notes, details = [], [], []
    for model in args.models(arguments):
        found = search_granularity(
            model, network, arguments.rate, _candidates(arguments, network), arguments.tolerance
        )
        shown = found.ranked[: arguments.top]
        if found.recommended not in shown:
            shown = (*shown, found.recommended)
        rows += [
            (
                found.device,
                found.ranked.index(c) + 1,
                c.label,
                c.dynamic_ms,
                c.ratio,
                c == found.recommended,
            )
            for c in shown
        ]
        notes += [
            f'{found.device}, stage {stage + 1}: '
            + ', '.join(f'S={s} {r:.2f}' for s, r in ratios.items())
            + f' -> knee S = {knee}'
            for stage, (ratios, knee) in enumerate(
                zip(found.stage_ratios, found.recommended.granularity, strict=True)
            )
        ]
        details.append(
            {
                'device': found.device,
                'static_ms': found.static_ms,
                'recommended': found.recommended.label,
                'stage_ratios': [dict(r) for r in found.stage_ratios],
            }
        )
    notes.append(
        f'knee: the smallest S that no larger S beats by more than {arguments.tolerance:g}'
        ' in r_l; a larger S makes the mask less flexible (Section 4.2)'
    )
    emit(
        Answer(
            f'S_net for {network.name} at r = {arguments.rate:g}',
            ('device', 'rank', 'S_net', 'dynamic ms', 'r_l', 'knee'),
            rows,
            notes,
            {'searches': details},
        ),
        arguments.form,
        arguments.output,
    )


def run_joint_search(arguments: argparse.Namespace, network: NetworkSpec) -> None:
    """S_net and G_net at once; per stage the fastest pairs."""
    channels = arguments.rate if arguments.channel_rate is None else arguments.channel_rate
    shares = {'sites': arguments.rate, 'channels': channels}
    rows, notes = [], []
    for model in args.models(arguments):
        sizes = _candidates(arguments, network)
        found = search_joint(model, network, shares, sizes, tolerance=arguments.tolerance)
        for stage, ratios in enumerate(found.stage_ratios):
            chosen = found.recommended[stage]
            best = sorted(ratios, key=lambda pair: (ratios[pair], pair))[: arguments.top]
            for pair in best if chosen in best else [*best, chosen]:
                rows.append((found.device, stage + 1, *pair, ratios[pair], pair == chosen))
        s_net, g_net = ('-'.join(map(str, part)) for part in zip(*found.recommended, strict=True))
        notes.append(
            f'{found.device}: S_net {s_net}, G_net {g_net}, {found.dynamic_ms:.4g} ms, '
            f'r_l = {found.ratio:.3f}'
        )
    notes.append(f'knee: the finest pair within {arguments.tolerance:g} of the fastest in r_l')
    title = f'S_net and G_net for {network.name} at r = {arguments.rate:g}, c = {channels:g}'
    columns = ('device', 'stage', 'S', 'G', 'r_l', 'knee')
    emit(Answer(title, columns, rows, notes), arguments.form, arguments.output)


def run_plot(arguments: argparse.Namespace) -> None:
    check_suffix(arguments.output)  # before the work, not after it
    if arguments.figure == 'frontier':
        if arguments.points is None:
            raise ValueError(
                '--csv: got nothing; give a CSV with the columns label, latency_ms, accuracy'
            )
        figure = plot_frontier(read_frontier(arguments.points), 'Accuracy over latency')
    else:
        network, (model, *others) = args.network(arguments), args.models(arguments)
        if others:
            raise ValueError(
                f'--device: got {arguments.device!r}; give one, a plot shows one device'
            )
        over_rate = arguments.figure == 'rate'
        default = '0.1:1:0.1' if over_rate else '0.2:0.8:0.2'
        rates = args.numbers(arguments.rates or default, '--rates')
        curves = sweep(model, network, rates, _candidates(arguments, network))
        draw = plot_ratio_over_rate if over_rate else plot_ratio_over_granularity
        figure = draw(curves, f'{network.name} on {model.device.label}')
    write_whole(arguments.output, render(figure, arguments.output))
    print(f'wrote {arguments.output}')
