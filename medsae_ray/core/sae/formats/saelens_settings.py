"""The settings of SAELens' cfg.json, of versions 2 to 6, by their effect on codes and reconstructions.

Versions 2 to 5 wrote the settings of the whole training run; those of data, language model and optimiser change no
code.
"""

from typing import Any

from medsae_ray.core.sae.formats.understood import Understood

_RENAMED = {"hook_point": "hook_name", "hook_point_head_index": "hook_head_index", "activation_fn_str": "activation_fn"}
_TOPK = ("topk", "batchtopk", "matryoshka_batchtopk")
_DTYPES = tuple(
    f"{prefix}{name}" for name in ("float32", "float64", "float16", "bfloat16") for prefix in ("", "torch.")
)
_ANOTHER = ("hook_name_out", "hook_point_out", "hook_layer_out", "hook_point_layer_out", "hook_head_index_out")
"""The output of a transcoder, which is not an autoencoder."""
_FOLLOWED = frozenset({"architecture", "d_in", "d_sae"})
_ONLY: dict[str, tuple[Any, ...]] = {
    "normalize_activations": ("none", False, None),
    "reshape_activations": ("none", None),
    "activation_fn": ("relu", None),
    "activation_fn_kwargs": ({}, None),
    "apply_b_dec_to_input": (True, False),
    "finetuning_scaling_factor": (True, False, None),
    "rescale_acts_by_decoder_norm": (False, None),
    "noise_scale": (0, None),
    "use_error_term": (False, None),
    "dtype": (*_DTYPES, None),
    "d_out": (None,),
    "is_transcoder": (False, None),
    **dict.fromkeys(_ANOTHER, (None, "")),
}
_MODEL_AND_DATA = frozenset(
    {"metadata", "device", "seed", "prepend_bos", "context_size", "seqpos_slice", "neuronpedia_id", "model_name"}
    | {"model_class_name", "model_kwargs", "model_from_pretrained_kwargs", "hook_name", "hook_eval", "hook_layer"}
    | {"hook_head_index", "hook_point_eval", "hook_point_layer", "dataset_path", "dataset_trust_remote_code"}
    | {"is_dataset_tokenized", "streaming", "exclude_special_tokens", "sequence_separator_token", "tokens_per_buffer"}
    | {"use_cached_activations", "cached_activations_path", "n_batches_in_buffer", "act_store_device", "llm_device"}
    | {"activations_mixing_fraction", "use_chat_formatting", "disable_concat_sequences", "prefetch_llm_batches"}
    | {"sae_lens_version", "sae_lens_training_version", "store_batch_size_prompts", "n_batches_for_norm_estimate"}
)
_TRAINING = frozenset(
    {"lr", "lr_end", "lr_scheduler_name", "lr_warm_up_steps", "lr_decay_steps", "n_restart_cycles", "adam_beta1"}
    | {"adam_beta2", "l1_coefficient", "l1_warm_up_steps", "l0_coefficient", "l0_warm_up_steps", "lp_norm"}
    | {"target_l0", "pre_act_loss_coefficient", "aux_loss_coefficient", "mse_loss_normalization", "use_ghost_grads"}
    | {"jumprelu_init_threshold", "jumprelu_bandwidth", "jumprelu_sparsity_loss_mode", "jumprelu_tanh_scale"}
    | {"jumprelu_ste_to_input", "topk_threshold_lr", "use_sparse_activations", "use_matryoshka_aux_loss"}
    | {"decoder_init_norm", "decoder_orthogonal_init", "decoder_heuristic_init", "decoder_heuristic_init_norm"}
    | {"init_encoder_as_decoder_transpose", "b_dec_init_method", "normalize_sae_decoder", "expansion_factor"}
    | {"scale_sparsity_penalty_by_decoder_norm", "from_pretrained_path", "finetuning_tokens", "finetuning_method"}
    | {"training_tokens", "total_training_tokens", "train_batch_size_tokens", "autocast", "autocast_lm"}
    | {"compile_llm", "compile_sae", "llm_compilation_mode", "sae_compilation_mode", "dead_feature_window"}
    | {"dead_feature_threshold", "feature_sampling_window", "n_eval_batches", "eval_batch_size_prompts", "resume"}
    | {"n_checkpoints", "checkpoint_path", "output_path", "save_final_checkpoint", "resume_from_checkpoint"}
    | {"verbose", "logger", "log_to_wandb", "log_activations_store_to_wandb", "log_optimizer_state_to_wandb"}
    | {"log_weights_to_wandb", "wandb_project", "wandb_entity", "wandb_id", "wandb_log_frequency", "run_name"}
    | {"eval_every_n_wandb_logs", "tokens_per_feature_sampling_window", "tokens_per_dead_feature_window"}
)


def modern(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings under the names of version 6, with its readers' defaults for missing ones."""
    found = {_RENAMED.get(name, name): value for name, value in config.items()}
    found.setdefault("architecture", "standard")
    kwargs = found.get("activation_fn_kwargs")
    if found["architecture"] in ("standard", "topk") and found.get("activation_fn") == "topk":
        stated = {"k": found["k"]} if "k" in found else {}
        if isinstance(kwargs, dict) and set(kwargs) == {"k"} and stated in ({}, kwargs):
            del found["activation_fn_kwargs"], found["activation_fn"]
            found |= {"architecture": "topk", "k": kwargs["k"]}
    # Since version 6 the metadata hold the SAE's input, and a transcoder's output.
    metadata = found.get("metadata") or {}
    return found | {name: metadata[name] for name in _ANOTHER if isinstance(metadata, dict) and name in metadata}


def known(architecture: str) -> Understood:
    """Return the known settings of their architecture."""
    followed, only = _FOLLOWED, dict(_ONLY)
    if architecture in _TOPK:
        followed, only = followed | {"k"}, only | {"rescale_acts_by_decoder_norm": (True, False, None)}
    if architecture == "matryoshka_batchtopk":
        followed = followed | {"matryoshka_widths"}
    return Understood(followed, only, _MODEL_AND_DATA | _TRAINING)
