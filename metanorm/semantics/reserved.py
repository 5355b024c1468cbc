"""Names that a spec cannot use, because the generated module would break."""

from __future__ import annotations

from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.names import NameTooLong, ReservedName
from metanorm.python_words import KEYWORDS, SOFT_KEYWORDS
from metanorm.syntax.ast import Identifier

MAX_LENGTH = 40
AFFINE_SWITCHES = ("affine", "elementwise_affine", "bias")  # arguments that `affine` declares

# Public attributes of `torch.nn.Module` in torch 2.6 to 2.15 (a test compares with the one that is
# installed). Listed, since the compiler imports no torch.
TORCH_ATTRIBUTES = frozenset(
    """
    T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda double
    dump_patches eval extra_repr float forward get_buffer get_extra_state get_parameter
    get_submodule half ipu load_state_dict modules mtia named_buffers named_children named_modules
    named_parameters parameters register_backward_hook register_buffer register_forward_hook
    register_forward_pre_hook register_full_backward_hook register_full_backward_pre_hook
    register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module
    register_parameter register_state_dict_post_hook register_state_dict_pre_hook requires_grad_
    set_extra_state set_submodule share_memory state_dict to to_empty train training type xpu
    zero_grad
    """.split()
)

# The same, and what generated modules add.
MODULE_ATTRIBUTES = TORCH_ATTRIBUTES.union(
    """
    reset_parameters reset_running_stats num_batches_tracked project_
    begin_ has_begun right_inverse attach fewest_dims most_dims takes_weight
    takes_before state_names begin_state process_groups
    """.split()
)

# What generated code itself calls by these names.
GENERATED = frozenset(
    "torch nn Tensor runtime functools math NamedTuple Callable Sequence self training device "
    "dtype annotations affine elementwise_affine track_running_stats processes true false".split()
)


def check_name(name: Identifier, problems: Collector, attribute: bool = False) -> None:
    """Report a name that Python, the module or generated code has taken.

    With `attribute`, the name becomes an attribute of the module.
    """
    text = name.name
    if len(text) > MAX_LENGTH:
        problems.add(NameTooLong(name.span, text, MAX_LENGTH))
        return
    why = ""
    if text in KEYWORDS or text in SOFT_KEYWORDS:
        why = "a word of Python"
    elif text in GENERATED or text in GENERATED_BUILTINS:
        why = "a name that generated code uses"
    elif text.startswith("_"):
        why = "private in Python"
    elif attribute and text in MODULE_ATTRIBUTES:
        why = "an attribute of `torch.nn.Module`"
    if why:
        problems.add(ReservedName(name.span, text, why))


# Builtins that generated modules call; shadowing another one does no harm.
GENERATED_BUILTINS = frozenset(
    "range float int bool str len tuple super isinstance property print object "
    "ValueError TypeError RuntimeError".split()
)
