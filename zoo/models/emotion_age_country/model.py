# SPDX-License-Identifier: Apache-2.0
"""wav2vec 2.0 encoder with a head for arousal, dominance and valence, and a multitask head on its embedding.

Fact sheet 07, sections 2 and 3. Parameters are named as in the official checkpoint; ``heads.`` comes before the names of
the multitask head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import ZooError

#: Kernel and stride of the convolutions that turn samples into frames.
CONVOLUTIONS = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))
#: Names of the gain and direction of the weight norm: what the checkpoint has, and what newer torch calls them.
WEIGHT_NORM = {
    "weight_g": "parametrizations.weight.original0",
    "weight_v": "parametrizations.weight.original1",
}
_GAIN = "wav2vec2.encoder.pos_conv_embed.conv."
_SLOPE = 0.01

Form = Literal["authors", "organisers"]


@dataclass(frozen=True)
class Config:
    """Sizes of the network; the defaults are the published ones.

    ``layers`` counts the Transformer layers that are kept, from the first. ``dimensions`` tells whether arousal, dominance
    and valence stand beside the states at the multitask head's input. ``form`` is whose head it is.
    """

    layers: int = 12
    width: int = 1024
    heads: int = 16
    ffn: int = 4096
    channels: int = 512
    position_kernel: int = 128
    position_groups: int = 16
    emotions: int = 10
    countries: int = 4
    form: Form = "authors"
    dimensions: bool = False


def frame_count(samples: Any) -> Any:
    """Frames that ``samples`` (an int, or an integer tensor) give: one each 320, from 400 on."""
    for kernel, stride in CONVOLUTIONS:
        samples = (samples - kernel) // stride + 1
    return samples


class ConvLayer(nn.Module):
    """Convolution over time without padding, norm over channels, GELU."""

    def __init__(self, before: int, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(before, channels, kernel, stride)
        self.layer_norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels before, T) to (B, channels, frames)."""
        x = self.layer_norm(self.conv(x).transpose(1, 2)).transpose(1, 2)
        return F.gelu(x)


class FeatureExtractor(nn.Module):
    """Samples to frames of 20 ms."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        before = [1] + [channels] * (len(CONVOLUTIONS) - 1)
        self.conv_layers = nn.ModuleList(
            ConvLayer(size, channels, kernel, stride)
            for size, (kernel, stride) in zip(before, CONVOLUTIONS, strict=True)
        )

    def forward(self, signal: Tensor) -> Tensor:
        """Map ``signal`` (B, samples) to (B, frames, channels)."""
        x = signal.unsqueeze(1)
        for layer in self.conv_layers:
            x = layer(x)
        return x.transpose(1, 2)


class FeatureProjection(nn.Module):
    """Norm and linear map from the convolutions' channels to the encoder's width."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(channels)
        self.projection = nn.Linear(channels, width)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, frames, channels) to (B, frames, width)."""
        projected: Tensor = self.dropout(self.projection(self.layer_norm(x)))
        return projected


class WeightNormConv(nn.Module):
    """Grouped convolution whose weight is a direction ``weight_v`` and a gain ``weight_g`` for each tap of the kernel."""

    def __init__(self, width: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.groups, self.padding = groups, kernel // 2
        self.weight_g = nn.Parameter(torch.empty(1, 1, kernel))
        self.weight_v = nn.Parameter(torch.empty(width, width // groups, kernel))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, frames) to (B, width, frames + 1 for an even kernel)."""
        norm = self.weight_v.square().sum(dim=(0, 1), keepdim=True).sqrt()
        return F.conv1d(
            x, self.weight_v * (self.weight_g / norm), self.bias, padding=self.padding, groups=self.groups
        )


class PositionalConv(nn.Module):
    """Where a frame stands, from its neighbours."""

    def __init__(self, width: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.even = kernel % 2 == 0
        self.conv = WeightNormConv(width, kernel, groups)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, frames, width) to the same shape."""
        y = self.conv(x.transpose(1, 2))
        if self.even:
            y = y[:, :, :-1]
        return F.gelu(y).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Attend over the frames of ``x`` (B, frames, width); ``bias`` (B, 1, 1, frames) is added to the scores."""
        batch, frames, width = x.shape
        q, k, v = (
            projection(x).reshape(batch, frames, self.heads, width // self.heads).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        scores = (q @ k.transpose(2, 3)) * self.scale
        if bias is not None:
            scores = scores + bias
        mixed = torch.softmax(scores, dim=3) @ v
        attended: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(batch, frames, width))
        return attended


class FeedForward(nn.Module):
    """Two linear maps with GELU between."""

    def __init__(self, width: int, ffn: int) -> None:
        super().__init__()
        self.intermediate_dense = nn.Linear(width, ffn)
        self.output_dense = nn.Linear(ffn, width)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, frames, width) to the same shape."""
        hidden = self.dropout(F.gelu(self.intermediate_dense(x)))
        mapped: Tensor = self.dropout(self.output_dense(hidden))
        return mapped


class EncoderLayer(nn.Module):
    """Pre-norm Transformer layer."""

    def __init__(self, width: int, heads: int, ffn: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.dropout = nn.Dropout(0.1)
        self.layer_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, ffn)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Map (B, frames, width) to the same shape."""
        x = x + self.dropout(self.attention(self.layer_norm(x), bias))
        y: Tensor = x + self.feed_forward(self.final_layer_norm(x))
        return y


class Encoder(nn.Module):
    """Positions, layers, and a norm behind the last."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.pos_conv_embed = PositionalConv(config.width, config.position_kernel, config.position_groups)
        self.dropout = nn.Dropout(0.1)
        self.layers = nn.ModuleList(
            EncoderLayer(config.width, config.heads, config.ffn) for _ in range(config.layers)
        )
        self.layer_norm = nn.LayerNorm(config.width)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Map (B, frames, width) to the same shape; ``valid`` (B, frames) is true where a frame is no padding."""
        bias = None
        if valid is not None:
            x = x * valid[:, :, None]
            bias = torch.zeros_like(valid, dtype=x.dtype).masked_fill(~valid, float("-inf"))[:, None, None]
        x = self.dropout(x + self.pos_conv_embed(x))
        for layer in self.layers:
            x = layer(x, bias)
        y: Tensor = self.layer_norm(x)
        return y


class Wav2Vec2(nn.Module):
    """Samples to states, one each 20 ms. ``masked_spec_embed`` is in the checkpoint and used in its training only."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.masked_spec_embed = nn.Parameter(torch.zeros(config.width))
        self.feature_extractor = FeatureExtractor(config.channels)
        self.feature_projection = FeatureProjection(config.channels, config.width)
        self.encoder = Encoder(config)

    def forward(self, signal: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """States of ``signal`` (B, samples).

        Returns
        -------
        states : float32, shape (B, frames, width)
        valid : bool, shape (B, frames), or None
            Which frames are no padding; None without ``lengths``. States elsewhere mean nothing.
        """
        x = self.feature_projection(self.feature_extractor(signal))
        valid = None
        if lengths is not None:
            valid = torch.arange(x.shape[1], device=x.device) < frame_count(lengths)[:, None]
        return self.encoder(x, valid), valid


class RegressionHead(nn.Module):
    """Embedding to arousal, dominance and valence."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.dropout = nn.Dropout(0.1)
        self.out_proj = nn.Linear(width, 3)

    def forward(self, embedding: Tensor) -> Tensor:
        """Map (B, width) to (B, 3), about 0 to 1."""
        hidden = self.dropout(torch.tanh(self.dense(self.dropout(embedding))))
        values: Tensor = self.out_proj(hidden)
        return values


class MultitaskHead(nn.Module):
    """Emotion intensities, country and age from one feature vector; parameters named as the source's.

    Parameters
    ----------
    features : int
        Size of the vector.
    emotions, countries : int
        Number of emotions and of countries.
    form : str
        ``authors``: age through a further layer of 16. ``organisers``: the baseline of the challenge, without it.

    Attributes
    ----------
    feature_mean, feature_std : float32 buffers, shape (features,)
        Of the training items; inputs are standardised with them. 0 and 1 until training sets them.
    """

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(
        self, features: int, *, emotions: int = 10, countries: int = 4, form: Form = "authors"
    ) -> None:
        super().__init__()
        self.register_buffer("feature_mean", torch.zeros(features))
        self.register_buffer("feature_std", torch.ones(features))
        # The source counts a layer without parameters before the first linear one, and in the authors' form the
        # activation of the country head twice: kept, so that state dicts go either way.
        self.share_layer = nn.Sequential(
            nn.Flatten(),
            nn.Linear(features, 128),
            nn.LayerNorm(128),
            nn.LeakyReLU(_SLOPE),
            nn.Linear(128, 64),
            nn.LayerNorm(64),
            nn.LeakyReLU(_SLOPE),
        )
        self.emotion_layer = nn.Sequential(
            nn.Linear(64, 32), nn.LeakyReLU(_SLOPE), nn.Linear(32, emotions), nn.Sigmoid()
        )
        twice = [nn.LeakyReLU(_SLOPE)] * (2 if form == "authors" else 1)
        self.country_layer = nn.Sequential(nn.Linear(64, 32), *twice, nn.Linear(32, countries))
        between = [nn.Linear(32, 16), nn.LeakyReLU(_SLOPE)] if form == "authors" else []
        last = 16 if form == "authors" else 32
        self.age_layer = nn.Sequential(nn.Linear(64, 32), nn.LeakyReLU(_SLOPE), *between, nn.Linear(last, 1))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Predict all three.

        Parameters
        ----------
        features : float32, shape (B, features)
            Not standardised.

        Returns
        -------
        emotion : float32, shape (B, emotions)
            Intensities, 0 to 1.
        country : float32, shape (B, countries)
            Logits.
        age : float32, shape (B, 1)
            Years.
        """
        shared = self.share_layer((features - self.feature_mean) / self.feature_std)
        return self.emotion_layer(shared), self.country_layer(shared), self.age_layer(shared)


class EmotionAgeCountry(nn.Module):
    """Encoder, mean over time, and both heads.

    Parameters
    ----------
    config : Config
        Sizes.

    Notes
    -----
    :func:`build` draws fresh weights: activations keep their size through the layers, and none stands out, unlike in the
    trained network. ``load_state_dict`` takes both spellings of the weight norm.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        if config.width % config.heads or config.width % config.position_groups or config.layers < 1:
            raise ZooError(
                f"emotion_age_country: a width of {config.width} in {config.heads} heads and "
                f"{config.position_groups} groups, {config.layers} layers: heads and groups must divide the width, "
                "and there must be a layer"
            )
        self.config = config
        self.wav2vec2 = Wav2Vec2(config)
        self.classifier = RegressionHead(config.width)
        self.heads = MultitaskHead(
            config.width + 3 * config.dimensions,
            emotions=config.emotions,
            countries=config.countries,
            form=config.form,
        )
        self.register_load_state_dict_pre_hook(_either_spelling)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def reset(self) -> None:
        """Draw fresh weights, uniform ones only, so that a seed gives the same bits on every machine."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv1d)):
                inputs = module.weight[0].numel()
                module.weight.uniform_(-((3 / inputs) ** 0.5), (3 / inputs) ** 0.5)
                assert module.bias is not None
                module.bias.uniform_(-(inputs**-0.5), inputs**-0.5)
            elif isinstance(module, WeightNormConv):
                bound = (3 / module.weight_v[0].numel()) ** 0.5
                module.weight_v.uniform_(-bound, bound)
                module.weight_g.copy_(module.weight_v.square().sum(dim=(0, 1), keepdim=True).sqrt())
                module.bias.zero_()
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
            elif isinstance(module, MultitaskHead):
                module.feature_mean.zero_()
                module.feature_std.fill_(1.0)
        self.wav2vec2.masked_spec_embed.zero_()

    def embed(self, signal: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Embedding, and arousal, dominance and valence; parameters as of :meth:`forward`."""
        states, valid = self.wav2vec2(signal, lengths)
        if valid is None:
            embedding = states.mean(dim=1)
        else:
            weight = valid[:, :, None].to(states.dtype)
            embedding = (states * weight).sum(dim=1) / weight.sum(dim=1)
        return embedding, self.classifier(embedding)

    def forward(
        self, signal: Tensor, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Predict clips.

        Parameters
        ----------
        signal : float32, shape (B, samples)
            16 kHz, each clip with mean 0 and variance 1; at least 400 samples.
        lengths : int64, shape (B,), or None
            Samples of each clip; what is behind them is padding and changes nothing. None: all are of full length.

        Returns
        -------
        hidden_states : float32, shape (B, width)
            The embedding.
        logits : float32, shape (B, 3)
            Arousal, dominance, valence, about 0 to 1.
        emotion : float32, shape (B, emotions)
            Intensities, 0 to 1.
        country : float32, shape (B, countries)
            Probabilities.
        age : float32, shape (B, 1)
            Years.
        """
        embedding, logits = self.embed(signal, lengths)
        features = torch.cat([embedding, logits], dim=1) if self.config.dimensions else embedding
        emotion, country, age = self.heads(features)
        return embedding, logits, emotion, torch.softmax(country, dim=1), age


def build(config: Mapping[str, object]) -> nn.Module:
    """The network for a card's ``config``: fields of :class:`Config`, each with its default.

    Raises
    ------
    ZooError
        An unknown key, a value of another type, or sizes that do not go together.
    """
    known = {field.name: field.default for field in fields(Config)}
    for key, value in config.items():
        if key not in known:
            raise ZooError(f"emotion_age_country: config has {key}; it may have {', '.join(known)}")
        if type(value) is not type(known[key]):
            raise ZooError(f"emotion_age_country: config {key} = {value!r} is of the wrong type")
    if config.get("form", "authors") not in get_args(Form):
        raise ZooError(
            f"emotion_age_country: config form is {config['form']!r}, not {' or '.join(get_args(Form))}"
        )
    device = torch.get_default_device()
    with torch.device("meta"):  # torch's own initial values would take as long as ours
        net = EmotionAgeCountry(Config(**config))  # type: ignore[arg-type]
    net.to_empty(device=device)
    if device.type != "meta":
        net.reset()
    return net


def _either_spelling(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Rename the weight norm of newer torch in a state dict that is about to be loaded."""
    for ours, theirs in WEIGHT_NORM.items():
        if prefix + _GAIN + theirs in state:
            state[prefix + _GAIN + ours] = state.pop(prefix + _GAIN + theirs)
