"""Settings and tensors of foreign checkpoints: followed, known to change nothing, or refused by name."""

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional as F

from medsae_ray.core.sae.formats.convert import FORMATS
from medsae_ray.core.sae.model import SAE
from medsae_ray.errors import ArtifactError

D, M, K = 8, 16, 4


def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    made = {"W_enc": torch.randn(D, M), "b_enc": torch.randn(M), "W_dec": F.normalize(torch.randn(M, D), dim=1)}
    return made | {"b_dec": torch.randn(D)}


def rows() -> Tensor:
    return torch.randn(50, D, generator=torch.Generator().manual_seed(1))


def saelens(config: dict[str, Any], **tensors: Tensor) -> SAE:
    stated = {"architecture": "standard", "d_in": D, "d_sae": M} | config
    files = {"cfg.json": json.dumps(stated).encode(), "sae_weights.safetensors": save(weights() | tensors)}
    return FORMATS["saelens"].read(files, "there").sae


def sparsify(config: dict[str, Any], **tensors: Tensor) -> SAE:
    own = weights()
    found = {"encoder.weight": own["W_enc"].T.contiguous(), "encoder.bias": own["b_enc"]} | tensors
    found |= {name: own[name] for name in ("W_dec", "b_dec")}
    stated = {"k": K, "d_in": D, "num_latents": M, "expansion_factor": 2} | config
    return FORMATS["sparsify"].read({"cfg.json": json.dumps(stated).encode(), "sae.safetensors": save(found)}, "t").sae


def torch_file(value: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def dictionary_learning(config: dict[str, Any], buffer: dict[str, Any] | None = None, **tensors: Tensor) -> SAE:
    own = weights()
    found = {"encoder.weight": own["W_enc"].T, "encoder.bias": own["b_enc"], "decoder.weight": own["W_dec"].T}
    found |= {"b_dec": own["b_dec"], "k": torch.tensor(K)} | tensors
    trainer = {"dict_class": "AutoEncoderTopK", "activation_dim": D, "dict_size": M, "k": K} | config
    document = {"trainer": trainer} | ({"buffer": buffer} if buffer else {})
    files = {"config.json": json.dumps(document).encode(), "ae.pt": torch_file(found)}
    return FORMATS["dictionary_learning"].read(files, "there").sae


def sail(config: dict[str, Any], **tensors: Tensor) -> SAE:
    own = weights()
    found = {"encoder.weight": own["W_enc"].T, "encoder.bias": own["b_enc"], "bias": own["b_dec"]}
    found |= {"inference_threshold": torch.tensor(0.2), "_threshold_sum": torch.tensor(24.0)}
    found |= {"_threshold_count": torch.tensor(120)} | {name.replace("__", "."): t for name, t in tensors.items()}
    settings = {"input_dim": D, "dictionary_sizes": [8, M], "k_values": [2, 4], "tied_weights": True} | config
    state = {f"model.{name}": tensor for name, tensor in found.items()}
    files = {"a.ckpt": torch_file({"epoch": 3, "state_dict": state, "hyper_parameters": settings})}
    return FORMATS["sail"].read(files, "there").sae


READERS: dict[str, Callable[..., SAE]] = {
    "saelens": saelens,
    "sparsify": sparsify,
    "dictionary_learning": dictionary_learning,
    "sail": sail,
}


def relu_codes() -> Tensor:
    own = weights()
    return torch.relu((rows() - own["b_dec"]) @ own["W_enc"] + own["b_enc"])


@torch.no_grad()
def same(sae: SAE, z_NM: Tensor, x_hat_ND: Tensor) -> None:
    torch.testing.assert_close(sae.encode(rows()), z_NM, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(sae.decode(z_NM), x_hat_ND, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["scaling_factor", "finetuning_scaling_factor"])
def test_the_factors_of_a_finetuned_sae_are_folded_into_its_decoder(name: str) -> None:
    factor_M = torch.linspace(-0.5, 2, M)
    own, z_NM = weights(), relu_codes()
    found = saelens({"finetuning_scaling_factor": True}, **{name: factor_M})
    same(found, z_NM, (factor_M * z_NM) @ own["W_dec"] + own["b_dec"])


def test_factors_that_nothing_uses_are_refused_and_factors_of_one_are_nothing() -> None:
    own, z_NM = weights(), relu_codes()
    for config in ({}, {"finetuning_scaling_factor": False}):
        with pytest.raises(ArtifactError, match="there: it has a scaling factor, but finetuning_scaling_factor"):
            saelens(config, scaling_factor=torch.full((M,), 0.5))
        same(saelens(config, scaling_factor=torch.ones(M)), z_NM, z_NM @ own["W_dec"] + own["b_dec"])
    with pytest.raises(ArtifactError, match=r"factor is \(15,\), \(16,\) is wanted"):
        saelens({"finetuning_scaling_factor": True}, scaling_factor=torch.ones(M - 1))
    with pytest.raises(ArtifactError, match=r"is true, but sae_weights.safetensors has no scaling factor"):
        saelens({"finetuning_scaling_factor": True})


SIGNED = "signed is True; only False can be imported"
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("sparsify", {"signed": True}, SIGNED),
    ("sparsify", {"activation": "groupmax"}, "activation is 'groupmax'; only 'topk'"),
    ("sparsify", {"transcode": True}, "transcode is True"),
    ("sparsify", {"skip_connection": True}, "skip_connection is True"),
    ("sparsify", {"num_latents": 32}, "num_latents is 32, but the tensors have 16"),
    ("sparsify", {"num_latents": 0, "expansion_factor": 3}, "num_latents is 24, but the tensors have 16"),
    ("sparsify", {"k": 4.0}, "k is 4.0, a whole number is wanted"),
    ("saelens", {"activation_fn": "tanh-relu"}, "activation_fn is 'tanh-relu'; only 'relu'"),
    ("saelens", {"activation_fn_str": "tanh-relu"}, "activation_fn is 'tanh-relu'"),
    ("saelens", {"activation_fn": "topk", "activation_fn_kwargs": {"k": 4, "postact_fn": "tanh"}}, "activation_fn is"),
    ("saelens", {"normalize_activations": "constant_norm_rescale"}, "normalize_activations is 'constant_norm_rescale'"),
    ("saelens", {"normalize_activations": True}, "normalize_activations is True"),
    ("saelens", {"reshape_activations": "hook_z"}, "reshape_activations is 'hook_z'"),
    ("saelens", {"apply_b_dec_to_input": "no"}, "apply_b_dec_to_input is 'no'"),
    ("saelens", {"noise_scale": 0.1}, "noise_scale is 0.1"),
    ("saelens", {"use_error_term": True}, "use_error_term is True"),
    ("saelens", {"rescale_acts_by_decoder_norm": True}, "rescale_acts_by_decoder_norm is True; only False"),
    ("saelens", {"dtype": "int8"}, "dtype is 'int8'"),
    ("saelens", {"d_out": D}, "d_out is 8; only None"),
    ("saelens", {"hook_point_out": "blocks.3.hook_mlp_out"}, "hook_point_out is"),
    ("saelens", {"metadata": {"hook_name_out": "blocks.3.hook_mlp_out"}}, "hook_name_out is"),
    ("saelens", {"architecture": "abstopk", "k": 4}, "architecture 'abstopk' cannot be imported"),
    ("saelens", {"d_in": 9}, "d_in is 9, but the tensors have 8"),
    ("saelens", {"d_sae": 17}, "d_sae is 17, but the tensors have 16"),
    ("saelens", {"d_sae": None}, "d_sae is None, a whole number is wanted"),
    ("saelens", {"architecture": "topk", "k": 0}, "k = 0"),
    ("saelens", {"architecture": "topk", "k": 17}, "k = 17 is above width = 16"),
    ("dictionary_learning", {"k": 5}, "state .* as k"),
    ("dictionary_learning", {"activation_dim": 7}, "activation_dim is 7, but the tensors have 8"),
    ("sail", {"tied_weights": None}, "tied_weights is None"),
    ("sail", {"k_values": 4}, "k_values are 4, a list of whole numbers"),
    ("sail", {"dictionary_sizes": [8, 16.0]}, "dictionary_sizes are .*, a list of whole numbers"),
    ("saelens", {"architecture": ["topk"]}, "cannot be imported"),
    ("sail", {"input_dim": 9}, "input_dim is 9, but the tensors have 8"),
]


@pytest.mark.parametrize(("name", "config", "message"), REFUSED)
def test_a_value_that_is_not_carried_out_is_refused_by_name(name: str, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        READERS[name](config)


@pytest.mark.parametrize("name", READERS)
def test_a_setting_or_a_tensor_that_nobody_knows_is_refused_by_name(name: str) -> None:
    READERS[name]({})
    with pytest.raises(ArtifactError, match=r"settings that are not understood: temperature = 0\.5"):
        READERS[name]({"temperature": 0.5})
    with pytest.raises(ArtifactError, match=r"tensors \['W_skip'\] are not understood"):
        READERS[name]({}, W_skip=torch.zeros(D, D))


def test_a_transcoder_of_dictionary_learning_is_told_by_its_buffer() -> None:
    dictionary_learning({}, {"ctx_len": 128, "io": "out", "device": "cuda:0"})
    with pytest.raises(ArtifactError, match="io is 'in_and_out'; only 'in' or 'out'"):
        dictionary_learning({}, {"ctx_len": 128, "io": "in_and_out"})


def test_a_decoder_beside_tied_weights_is_refused_and_one_that_is_missing_too() -> None:
    decoder = weights()["W_dec"].T
    with pytest.raises(ArtifactError, match=r"tensors \['decoder.weight'\] are not understood"):
        sail({}, decoder__weight=decoder)
    with pytest.raises(ArtifactError, match=r"missing tensors \['decoder.weight'\]"):
        sail({"tied_weights": False})
    torch.testing.assert_close(sail({"tied_weights": False}, decoder__weight=decoder).W_dec, decoder.T)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(M, dtype=torch.int32), "b_enc holds torch.int32, floating point numbers are wanted"),
        (torch.full((M,), torch.inf), "b_enc holds NaN or Inf"),
        (torch.full((M,), 1e300, dtype=torch.float64), "b_enc holds NaN or Inf"),
        (torch.zeros(M, 1), r"b_enc is \(16, 1\), \(16,\) is wanted"),
    ],
)
def test_what_is_no_tensor_of_an_sae_is_refused_before_anything_is_computed(tensor: Tensor, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        saelens({"apply_b_dec_to_input": False}, b_enc=tensor)


OLD = {
    "2": {
        "model_name": "gpt2-small",
        "hook_point": "blocks.8.hook_resid_pre",
        "hook_point_layer": 8,
        "hook_point_head_index": None,
        "dataset_path": "a/b",
        "is_dataset_tokenized": False,
        "context_size": 128,
        "b_dec_init_method": "geometric_median",
        "expansion_factor": 2,
        "activation_fn": "relu",
        "noise_scale": 0.0,
        "normalize_activations": False,
        "device": "cuda",
        "dtype": "torch.float32",
        "seed": 42,
        "lr": 4e-4,
        "l1_coefficient": 8e-5,
        "lp_norm": 1,
        "use_ghost_grads": True,
        "wandb_project": "w",
        "n_checkpoints": 10,
        "dead_feature_threshold": 1e-8,
        "model_kwargs": {},
        "sae_lens_version": "2.1.3",
        "resume": False,
    },
    "5": {
        "architecture": "standard",
        "activation_fn_str": "relu",
        "activation_fn_kwargs": {},
        "hook_layer": 8,
        "apply_b_dec_to_input": True,
        "finetuning_scaling_factor": False,
        "model_name": "m",
        "hook_name": "h",
        "hook_head_index": None,
        "prepend_bos": True,
        "dataset_path": "d",
        "dataset_trust_remote_code": True,
        "normalize_activations": "none",
        "dtype": "float32",
        "device": "cpu",
        "sae_lens_training_version": "5.11",
        "neuronpedia_id": None,
        "model_from_pretrained_kwargs": {},
        "seqpos_slice": [None],
        "context_size": 128,
    },
    "6": {
        "architecture": "standard",
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "decoder_init_norm": 0.1,
        "metadata": {"sae_lens_version": "6.54.12", "hook_name": "h", "anything": [1]},
        "l1_warm_up_steps": 0,
    },
}


@pytest.mark.parametrize("version", OLD)
def test_files_of_all_versions_of_saelens_are_read(version: str) -> None:
    own, z_NM = weights(), relu_codes()
    config = OLD[version] | {"d_in": D, "d_sae": M}
    if version == "2":
        files = {"cfg.json": json.dumps(config).encode(), "sae_weights.safetensors": save(own)}
        found = FORMATS["saelens"].read(files, "there").sae
    else:
        found = saelens(config)
    same(found, z_NM, z_NM @ own["W_dec"] + own["b_dec"])


def test_topk_as_an_activation_function_is_topk() -> None:
    h_NM = relu_codes()
    top = h_NM.topk(K, dim=1)
    z_NM = torch.zeros_like(h_NM).scatter(1, top.indices, top.values)
    own = weights()
    for config in ({"architecture": "topk"}, {}):
        found = saelens(config | {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}})
        same(found, z_NM, z_NM @ own["W_dec"] + own["b_dec"])
    same(sparsify({"signed": False, "multi_topk": True}), z_NM, z_NM @ own["W_dec"] + own["b_dec"])
    same(sparsify({"num_latents": 0}), z_NM, z_NM @ own["W_dec"] + own["b_dec"])
    same(dictionary_learning({"layer": 3, "lr": 1e-3}), z_NM, z_NM @ own["W_dec"] + own["b_dec"])
