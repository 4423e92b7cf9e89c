"""What makes a vision transformer dynamic, whichever framework it comes from (AdaViT)."""

from collections.abc import Iterable, Sequence
from typing import Any, cast

from torch import Tensor, nn

from las_mm.executors import encoder_executor, find_executor
from las_mm.layers import POLICIES, DynamicBlock, EncoderBlock, Executor

from .backbone import DynamicBackbone, Stage
from .checkpoint_fit import check_fit
from .stem import StemLayer

THRESHOLDS = {'tokens': 0.6, 'heads': 0.5, 'blocks': 0.5}


class DynamicTransformer(DynamicBackbone):
    """Mixin for backbones that are a stem of tokens and a list of encoder layers.

    All layers are one stage. Losses, hooks and reports read ``traces`` as of any backbone.
    """

    num_extra_tokens: int
    encoder_name: str  # of the list of layers
    final_norm: bool
    tokens_to_token: Any
    _executor: Any = None

    def make_transformer(
        self,
        layers: nn.ModuleList,
        policies: Sequence[str],
        keep_layers: int = 1,
        thresholds: dict[str, float] | None = None,
        token_patch: int = 1,
        head_mode: str = 'input',
        tokens_with_mlp: bool = True,
        with_cp: bool = False,
    ) -> None:
        """Give every layer its maskers.

        Args:
            layers: The encoder layers.
            policies: What is decided on: ``'tokens'``, ``'heads'`` and ``'blocks'``, that is
                attention and MLP, each for itself.
            keep_layers: First layers that decide on tokens alone.
            thresholds: From which probability on something is kept, by policy; AdaViT's by default,
                .6 for tokens, .5 for the others.
            token_patch: S, tokens are decided on in S×S patches of their grid.
            head_mode: What a skipped head skips besides itself, see
                :class:`~las_mm.layers.EncoderBlock`: ``'input'`` is AdaViT's default, ``'hidden'``
                its ada-head-v2, ``'attention'`` its only-attention.
            tokens_with_mlp: Whether a skipped token skips the MLP, too.
            with_cp: Whether training computes the layers' activations again in the backward pass,
                which takes time and saves memory.

        Raises:
            ValueError: If an argument is not one of the allowed ones.
        """
        check_policies(policies, keep_layers, thresholds or {}, token_patch, len(layers))
        limits = THRESHOLDS | (thresholds or {})
        names = {module: name for name, module in self.named_modules()}
        self.granularity = (token_patch if 'tokens' in policies else None,)
        self.channel_groups = (None,)
        for index, layer in enumerate(cast(Iterable[EncoderBlock], layers)):
            options: dict[str, dict[str, Any]] = {
                policy: {'threshold': limits[policy]}
                for policy in POLICIES
                if policy in policies and (policy == 'tokens' or index >= keep_layers)
            }
            if 'tokens' in options:
                options['tokens']['token_patch'] = token_patch
            layer.make_dynamic(
                options, names[layer], self.num_extra_tokens, head_mode, tokens_with_mlp
            )
            layer.with_cp = with_cp
        self.register_load_state_dict_pre_hook(check_fit)

    @property
    def dynamic_stages(self) -> dict[str, Stage]:
        """The one stage, all encoder layers."""
        return {self.encoder_name: cast(Stage, self.get_submodule(self.encoder_name))}

    @property
    def blocks(self) -> list[DynamicBlock]:
        """The layers that can skip something, in order of execution."""
        layers = [part for part in self.modules() if isinstance(part, EncoderBlock)]
        return cast(list[DynamicBlock], [layer for layer in layers if layer.maskers])

    def hand_out(self, executor: Executor[Any] | None) -> Executor[Any] | None:
        """As any backbone's; whichever is named, what runs layers gathers their kept tokens."""
        executor = None if executor is None else encoder_executor(executor)
        before, self._executor = self._executor, executor
        for layer in self.modules():
            if isinstance(layer, EncoderBlock):
                layer.executor = executor
        return before

    @property
    def executor(self) -> str:
        """Name of the executor of inference; training is always dense."""
        return 'dense' if self._executor is None else self._executor.name

    @executor.setter
    def executor(self, name: str | Executor[Any]) -> None:
        self.hand_out(find_executor(name))

    def token_grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """(h, w) of the patches' tokens of an image of (H, W)."""
        raise NotImplementedError

    def stem_convs(self, size: tuple[int, int]) -> list[tuple[nn.Conv2d, tuple[int, int]]]:
        """The convolutions that make tokens of an image of (H, W), with their outputs' (h, w).

        Empty where tokens are made otherwise.
        """
        return []

    def stem_macs(self, size: tuple[int, int]) -> int:
        """MACs of what makes tokens of an image of (H, W)."""
        raise NotImplementedError

    @property
    def stem_layers(self) -> list[StemLayer]:
        """None: what comes before the layers is not only convolutions."""
        return []

    def fixed_macs(self) -> int:
        """Those of the stem, and of layers that decide on nothing."""
        layers = [part for part in self.modules() if isinstance(part, EncoderBlock)]
        still = [layer for layer in layers if not layer.maskers]
        works = [w for layer in still for w in layer.branch.works(layer.grid, ())]
        return self.stem_macs(self.input_size) + sum(work.macs for work in works)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The framework's forward on images (N, 3, H, W); tells layers the grid of their tokens."""
        grid = self.token_grid((x.shape[-2], x.shape[-1]))
        for layer in self.get_submodule(self.encoder_name).modules():
            if isinstance(layer, EncoderBlock):
                layer.__dict__['_grid'] = grid
        return super().forward(x)


def check_policies(
    policies: Sequence[str],
    keep_layers: int,
    thresholds: dict[str, float],
    token_patch: int,
    layers: int,
) -> None:
    """Refuse options of :meth:`DynamicTransformer.make_transformer`.

    Raises:
        ValueError: If one of them is not allowed.
    """
    allowed = ', '.join(map(repr, POLICIES))
    if not policies or isinstance(policies, str) or not set(policies) <= set(POLICIES):
        raise ValueError(f'policies: got {policies!r}; give a list of any of {allowed}')
    if not set(thresholds) <= set(POLICIES):
        raise ValueError(f'thresholds: got {thresholds!r}; allowed keys are {allowed}')
    if not isinstance(keep_layers, int) or not 0 <= keep_layers < layers:
        raise ValueError(f'keep_layers: got {keep_layers!r}; choose 0 to {layers - 1}')
    if not isinstance(token_patch, int) or token_patch < 1:
        raise ValueError(f'token_patch: got {token_patch!r}; choose 1 or more tokens')
