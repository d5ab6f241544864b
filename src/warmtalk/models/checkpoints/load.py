"""Loads the networks of MuseTalk from the folder of models, without a second copy of the weights in memory.

Networks are built on the meta device (shapes only) and use the tensors of the file in place. Functions import diffusers
and transformers on first use: an import takes seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from warmtalk.core.errors import Damaged, NotReady
from warmtalk.models.checkpoints import weights
from warmtalk.models.checkpoints.tensor_files import (
    CPU,
    Tensors,
    damaged,
    first_line,
    read_config,
    read_metadata,
    read_tensors,
)
from warmtalk.models.checkpoints.weights import FoundPart

PART_KEY = "warmtalk_part"
"""Metadata key of a file written by warmtalk; the value is the published folder of the network."""
VAE_SCALE = 0.18215
"""Default of diffusers; the published config of the VAE does not state the factor."""
_OLD_ATTENTION_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_VAE_ENCODER_PREFIXES = ("encoder.", "quant_conv.")
_WHISPER_TINY = {"d_model": 384, "encoder_layers": 4, "num_mel_bins": 80, "max_source_positions": 1500}
_FRONT_END = {"feature_size": 80, "sampling_rate": 16_000, "hop_length": 160, "n_fft": 400, "chunk_length": 30}


def unet(models_dir: Path, version: str, dtype: torch.dtype | None, device: torch.device = CPU) -> Any:
    """Returns the UNet2DConditionModel of one MuseTalk version, on `device`, in `dtype` or the type of the file.

    Raises NotReady when a file is missing, Damaged when a file is broken or not a MuseTalk UNet of `version`,
    InvalidInput for an unknown version.
    """
    from diffusers import UNet2DConditionModel

    found = weights.find(models_dir, weights.unet_part(version))
    _check_part(found)
    return _assemble(UNet2DConditionModel, found, read_tensors(found.weights, dtype, device=device))


def vae(models_dir: Path, dtype: torch.dtype | None, device: torch.device = CPU, *, encoder: bool = True) -> Any:
    """Returns the AutoencoderKL on `device`. Without `encoder`, loads the decoder alone (60 % of the weights).

    Raises as `unet` does, and NotReady when the encoder is requested from a file with the decoder alone.
    """
    from diffusers import AutoencoderKL

    found = weights.find(models_dir, weights.VAE)
    keep: Callable[[str], bool] = lambda name: encoder or not name.startswith(_VAE_ENCODER_PREFIXES)  # noqa: E731
    tensors = read_tensors(found.weights, dtype, keep, device)
    if encoder and not any(name.startswith("encoder.") for name in tensors):
        raise NotReady(
            f"{found.weights} has only the decoder of the image codec: avatars cannot be prepared with this file",
            "Run: warmtalk weights fetch, into another folder",
        )
    tensors = {_modern_name(name): _as_matrix(name, tensor) for name, tensor in tensors.items()}
    return _assemble(AutoencoderKL, found, tensors, trim=None if encoder else _remove_encoder)


def whisper(models_dir: Path, dtype: torch.dtype | None, device: torch.device = CPU) -> Any:
    """Returns the WhisperEncoder of transformers on `device`, with fused attention. Raises as `unet` does."""
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder as EncoderModule

    found = weights.find(models_dir, weights.WHISPER)
    config = read_config(found.config)
    if any(config.get(key) != value for key, value in _WHISPER_TINY.items()):
        raise Damaged(
            f"{found.config} does not describe whisper-tiny",
            "Fetch openai/whisper-tiny, not another size: warmtalk weights fetch",
        )
    prefixes = ("model.encoder.", "encoder.")
    tensors = read_tensors(found.weights, dtype, lambda name: name.startswith(prefixes), device)
    tensors = {name.partition("encoder.")[2]: tensor for name, tensor in tensors.items()}
    return _assemble(lambda **keys: EncoderModule(WhisperConfig(**keys, attn_implementation="sdpa")), found, tensors)


def feature_extractor(models_dir: Path) -> Any:
    """Returns the WhisperFeatureExtractor of preprocessor_config.json.

    A folder without this file gets the defaults of transformers, equal to whisper-tiny's. Opens no connection.
    Raises NotReady as `unet` does, Damaged for a front end of another Whisper.
    """
    from transformers import WhisperFeatureExtractor

    path = weights.find(models_dir, weights.WHISPER).config.with_name("preprocessor_config.json")
    config = read_config(path) if path.is_file() else {}
    if any(config.get(key, value) != value for key, value in _FRONT_END.items()):
        raise damaged(path, "does not describe the front end of whisper-tiny")
    return WhisperFeatureExtractor(**config)


def vae_fingerprint(models_dir: Path) -> str:
    """Returns 16 hex digits, the identity of the VAE in any precision: latents fit one VAE only."""
    found = weights.find(models_dir, weights.VAE)
    bias = read_tensors(found.weights, torch.float16, lambda name: name == "decoder.conv_in.bias")
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in bias.values())).hexdigest()[:16]


def _assemble(
    build: Callable[..., Any], found: FoundPart, tensors: Tensors, trim: Callable[[Any], None] | None = None
) -> Any:
    """Returns the network of `build(**config)`, without the parts removed by `trim`, with `tensors` as weights."""
    try:
        with torch.device("meta"):
            model = build(**read_config(found.config))
    except (TypeError, ValueError, KeyError) as error:
        raise damaged(found.config, f"does not describe the {found.part.name} ({first_line(error)})") from error
    if trim:
        trim(model)
    _check_fit(found, {name: tuple(p.shape) for name, p in model.state_dict().items()}, tensors)
    model.load_state_dict(tensors, assign=True)
    return model.eval().requires_grad_(False)


def _check_fit(found: FoundPart, shapes: Mapping[str, tuple[int, ...]], tensors: Tensors) -> None:
    missing = [name for name in shapes if name not in tensors]
    surplus = [name for name in tensors if name not in shapes]
    misshapen = [name for name in shapes if name in tensors and tuple(tensors[name].shape) != shapes[name]]
    for problem, names in (("missing", missing), ("not part of it", surplus), ("of another shape", misshapen)):
        if names:
            raise damaged(
                found.weights,
                f"is not the {found.part.name} that {found.config.name} describes: of {len(shapes)} tensors, "
                f"{len(names)} are {problem}, the first {names[0]}",
            )


def _check_part(found: FoundPart) -> None:
    """Raises Damaged for a file written by warmtalk for another network."""
    if found.weights.suffix == ".safetensors":
        part = read_metadata(found.weights).get(PART_KEY, found.part.folders[0])
        if part != found.part.folders[0]:
            raise damaged(found.weights, f"was written for {part}, not for {found.part.folders[0]}")


def _modern_name(name: str) -> str:
    """Returns the current name of a VAE tensor; the published file has older names for the attention."""
    if ".attentions.0." not in name:
        return name
    head, part, kind = name.rsplit(".", 2)
    return f"{head}.{_OLD_ATTENTION_NAMES.get(part, part)}.{kind}"


def _as_matrix(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Some copies store the attention's matrices as 1 x 1 convolutions."""
    attention = ".attentions.0." in name and name.endswith(".weight")
    return tensor[:, :, 0, 0] if attention and tensor.ndim == 4 else tensor


def _remove_encoder(model: Any) -> None:
    model.encoder = None
    model.quant_conv = None
