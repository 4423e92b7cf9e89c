"""Two hooks of a kind in one run."""

from mmengine.hooks import Hook
from mmengine.runner import Runner


def refuse_twins(hook: Hook, runner: Runner, field: str, option: str = '') -> None:
    """Refuse two hooks of a kind that would write over each other's files.

    Args:
        hook: One of them.
        runner: Whose hooks the others are.
        field: The attribute that says where they write.
        option: What sets it; by default the option of the same name.

    Raises:
        ValueError: If another hook of the kind, or of a class made of it, writes to the same place.
    """
    value, kind, option = getattr(hook, field), type(hook), option or field
    for other in getattr(runner, 'hooks', []):
        related = isinstance(other, kind) or isinstance(hook, type(other))
        if related and other is not hook and getattr(other, field, None) == value:
            raise ValueError(
                f'{option}: got {value!r} of a {kind.__name__} and a {type(other).__name__}; leave '
                f'one out, or give each {option} of its own'
            )
