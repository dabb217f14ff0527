"""The modifiers of SparseML 1.8 that paredown understands, with the options that each has."""

from collections.abc import Mapping

_TIMES = "start_epoch end_epoch"
_PRUNING = (
    f"{_TIMES} init_sparsity final_sparsity update_frequency params leave_enabled inter_func mask_type "
    "global_sparsity phased score_type"
)
_QUANTIZATION = (
    f"{_TIMES} scheme scheme_overrides ignore disable_quantization_observer_epoch freeze_bn_stats_epoch "
    "model_fuse_fn_name model_fuse_fn_kwargs num_calibration_steps strict submodules reduce_range activation_bits "
    "weight_bits quantize_embeddings quantize_embedding_activations quantize_linear_activations "
    "quantize_conv_activations exclude_batchnorm exclude_module_types tensorrt"
)
EPOCH_STYLE: Mapping[str, str] = {
    "EpochRangeModifier": _TIMES,
    "SetLearningRateModifier": f"{_TIMES} learning_rate param_groups constant_logging",
    "LearningRateFunctionModifier": (
        f"{_TIMES} lr_func init_lr final_lr cycle_epochs param_groups update_frequency constant_logging"
    ),
    "SetWeightDecayModifier": f"{_TIMES} weight_decay param_groups constant_logging",
    "GMPruningModifier": _PRUNING,
    "MagnitudePruningModifier": _PRUNING,
    "ConstantPruningModifier": f"{_TIMES} params update_frequency",
    "QuantizationModifier": _QUANTIZATION,
    "DistillationModifier": (f"{_TIMES} hardness temperature distill_output_keys teacher_input_keys update_frequency"),
}
"""The modifiers that paredown understands, as `- !Name`, and the options that each has in SparseML 1.8."""

STAGE_STYLE: Mapping[str, str] = {
    "SparseGPTModifier": (
        f"{_TIMES} sparsity params mask_type block_size dampening_frac sequential_update preserve_sparsity_mask"
    ),
    "MagnitudePruningModifier": (
        f"{_TIMES} init_sparsity final_sparsity update_frequency params leave_enabled inter_func mask_type "
        "scheduler_args apply_globally"
    ),
    "ConstantPruningModifier": f"{_TIMES} params update_frequency",
    "QuantizationModifier": f"{_QUANTIZATION} config_groups",
    "LegacyQuantizationModifier": f"{_QUANTIZATION} post_oneshot_calibration",
    "OutputDistillationModifier": (
        f"{_TIMES} params update_frequency orig_scale distill_scale comparison comparison_args transforms "
        "transforms_args projection projection_args offload_layer_output"
    ),
}
"""The same for stage style."""

SPELLED_IN_STAGES = {
    "start_epoch": "start",
    "end_epoch": "end",
    "update_frequency": "update",
    "params": "targets",
    "mask_type": "mask_structure",
    "inter_func": "update_scheduler",
}
"""Epoch style's names, by which options are asked for here, as stage style spells them."""
