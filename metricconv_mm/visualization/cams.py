"""Where a classifier looks: Grad-CAM of several models side by side; needs grad-cam."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

INSTALL = "class activation maps need grad-cam: pip install 'metricconv_mm[vis]', or pip install grad-cam"


class ClassActivation(NamedTuple):
    """Where a classifier found evidence of a class, and the class that it predicted."""

    map: np.ndarray
    """``[H, W]`` in [0, 1], at the size of the input"""
    predicted: int


class CamRow(NamedTuple):
    """One image and what every model makes of it."""

    image: np.ndarray
    """uint8 ``[H, W, 3]``"""
    label: int
    activations: Sequence[ClassActivation]


def target_layer(model: nn.Module, name: str | None = None) -> tuple[str, nn.Module]:
    """A module by its name, or by the end of it if no other ends so; without one, the last block of layer4.

    Raises:
        ValueError: when there is none, or more than one, naming close ones.
    """
    modules = {own: module for own, module in model.named_modules() if own}
    wanted = name or 'layer4'
    found = [wanted] if wanted in modules else [own for own in modules if own.endswith(f'.{wanted}')]
    if len(found) == 1:
        module = modules[found[0]]
        if name is None and len(module._modules):
            last = list(module._modules)[-1]
            return f'{found[0]}.{last}', module.get_submodule(last)
        return found[0], module
    if found:
        raise ValueError(f'layer {wanted!r} is one of {", ".join(found)}: give the whole name')
    close = get_close_matches(wanted, modules, n=5, cutoff=0.5) or get_close_matches(f'backbone.{wanted}', modules, n=5, cutoff=0.3)
    blocks = [own for own, module in modules.items() if own.count('.') <= 1 and next(module.parameters(), None) is not None]
    others = f'do you mean {" or ".join(close)}?' if close and name else f'name another, such as {", ".join(blocks[:12])}'
    raise ValueError(f'the model has no layer {wanted!r}: {others}')


def class_activation(model: nn.Module, input: Tensor, layer: nn.Module, target: int | None = None) -> ClassActivation:
    """Grad-CAM (Selvaraju et al. 2017): ``relu(sum over c of a_c A_c)``, where a_c is the mean of d score / d A_c over the pixels.

    Args:
        input: ``Tensor[1, C, H, W]``, one image, so that nothing depends on what else is in a batch.
        layer: its output is A, ``Tensor[1, c, h, w]``.
        target: the class whose score counts; None is the predicted one.

    Raises:
        ImportError: without the package grad-cam.
        ValueError: for more than one image, a layer without such an output, a class that the model does not know, and scores that are not finite.
    """
    try:
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    except ImportError as error:
        raise ImportError(INSTALL) from error
    if len(input) != 1:
        raise ValueError(f'expected one image [1, C, H, W], got {tuple(input.shape)}')
    training = model.training
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    outputs: list = []
    handle = layer.register_forward_hook(lambda module, args, output: outputs.append(output))
    try:
        with torch.no_grad():
            scores = model.eval()(input)
        shape = getattr(outputs[0], 'shape', type(outputs[0]).__name__) if outputs else 'nothing'
        if not outputs or not isinstance(outputs[0], Tensor) or outputs[0].ndim != 4:
            raise ValueError(f'expected a layer with an output [1, c, h, w], got {type(layer).__name__} with {shape}')
        _require_scores(scores, target)
        predicted = int(scores.argmax(1))
        # what is frozen has no gradient to hand down
        model.requires_grad_(True)
        cam = GradCAM(model=model, target_layers=[layer])
        try:
            with torch.enable_grad():
                grey = cam(input_tensor=input, targets=[ClassifierOutputTarget(predicted if target is None else target)])[0]
        finally:
            cam.activations_and_grads.release()
    finally:
        handle.remove()
        model.train(training).zero_grad()
        for parameter in frozen:
            parameter.requires_grad_(False)
    return ClassActivation(grey, predicted)


def _require_scores(scores: object, target: int | None) -> None:
    if not isinstance(scores, Tensor) or scores.ndim != 2:
        raise ValueError(f'expected a classifier, whose output is [1, classes], got {getattr(scores, "shape", type(scores).__name__)}')
    if not scores.isfinite().all():
        raise ValueError('the scores of the classes are not finite: the checkpoint is that of a run that diverged')
    if target is not None and not 0 <= target < scores.shape[1]:
        raise ValueError(f'class {target} of a model with classes 0 to {scores.shape[1] - 1}')


def draw_cams(rows: Sequence[CamRow], models: Sequence[str], classes: Sequence[str]) -> Figure:
    """One row an image: the image, and the map of every model over it with the class it predicts, in green if that is right and in red if not."""
    from pytorch_grad_cam.utils.image import show_cam_on_image

    columns = 1 + len(models)
    figure = Figure(figsize=(1.7 * columns, 1.95 * len(rows) + 0.2), layout='constrained')
    panels = figure.subplots(len(rows), columns, squeeze=False)
    for panel, name in zip(panels[0], ('', *models), strict=True):
        above = {'xytext': (0, 18), 'xycoords': 'axes fraction', 'textcoords': 'offset points', 'ha': 'center'}
        panel.annotate(name, (0.5, 1.0), fontsize=8, weight='bold', **above)
    for row, axes in zip(rows, panels, strict=True):
        image = row.image.astype(np.float32) / 255
        axes[0].imshow(image, interpolation='nearest')
        axes[0].set_title(classes[row.label], fontsize=8)
        for panel, activation in zip(axes[1:], row.activations, strict=True):
            panel.imshow(show_cam_on_image(image, activation.map, use_rgb=True), interpolation='nearest')
            colour = 'darkgreen' if activation.predicted == row.label else 'firebrick'
            panel.set_title(classes[activation.predicted], fontsize=8, color=colour)
        for panel in axes:
            panel.set_axis_off()
    return figure
