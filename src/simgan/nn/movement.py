"""How far has structure moved? A term of R's loss, in pixels: differentiable, and blind to levels, contrast and blur.

In a window the refined image x̃ is taken for the synthetic one x with another gain, blur and light, moved by d:

    x̃(p) ≈ a·x(p) + c·∇²x(p) + e + f·p − a·d·∇x(p)

That is a linear regression of x̃ on ∇x, x, ∇²x, 1 and p over the window; d comes out as −(coefficients of ∇x)/a. What a
window knows of d is S, the ∇x part of its normal matrix less what the other regressors explain: an edge knows
nothing of movement along it. The movement of an image weighs its windows by that:

    M(x̃, x) = √( Σ_w dᵀ S d / ½ Σ_w tr S )                                  (|d| where all of it moves by d)

Both images are blurred first (σ = 1 px). Beyond about a pixel and a half M says too little, but still which way back.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW_PX = 16
BLUR_PX = 1.0
"""σ of the Gaussian before all else: noise goes, and gradients become what the regression takes them for."""
_MOST_WINDOWS = 64  # of one image, evenly spread: enough for a mean
_LEAST_GAIN = 0.2  # a is not divided below it: where structure is gone, nothing is known of where it went
_RIDGE = 1e-4  # of the largest regressor, so that the flattest window can be solved
_STILL_PX = 0.02  # below it the root is rounded off: its slope is finite where nothing moves


def movement_px(*, refined: Tensor, synthetic: Tensor) -> Tensor:
    """M(x̃, x) of each image, (N,) in pixels. (N, C, H, W) each, in [-1, 1], sides of at least `WINDOW_PX`; colours are
    averaged. Its gradient reaches the refined images alone."""
    with torch.no_grad():
        regressors = _windows(_regressors(synthetic.float().mean(dim=1)))
        solution, known = _solve(regressors)
    seen = _windows(blurred(refined.float().mean(dim=1))[:, None])[..., 0]
    seen = seen - seen.mean(dim=-1, keepdim=True)
    coefficients = (solution @ seen[..., None])[..., 0]
    gain = coefficients[..., 2:].abs().clamp_min(_LEAST_GAIN)
    d = coefficients[..., :2] / gain  # up to its sign
    squares = (d[..., None, :] @ known @ d[..., None])[..., 0, 0].sum(dim=1)
    weight = known.diagonal(dim1=2, dim2=3).sum(dim=(1, 2)) / 2
    return (squares / weight + _STILL_PX**2).sqrt() - _STILL_PX


def blurred(grey: Tensor, *, down: int = 0, right: int = 0) -> Tensor:
    """The Gaussian-blurred images (n, H, W), differentiated so many times (0, 1, 2) in each direction."""
    radius = min(math.ceil(4 * BLUR_PX), min(grey.shape[1:]) - 1)
    t = torch.arange(-radius, radius + 1, dtype=torch.float32, device=grey.device)
    gauss = torch.exp(-(t**2) / (2 * BLUR_PX**2))
    gauss = gauss / gauss.sum()
    # Cross-correlation: the kernels of the derivatives are mirrored. A ramp has slope 1 and t²/2 curvature 1.
    slope = t * gauss / (t**2 * gauss).sum()
    curvature = (t**2 - (t**2 * gauss).sum()) * gauss
    kernels = (gauss, slope, 2 * curvature / (t**2 * curvature).sum())
    padded = F.pad(grey[:, None], (radius, radius, radius, radius), mode="reflect")
    return F.conv2d(F.conv2d(padded, kernels[right].view(1, 1, 1, -1)), kernels[down].view(1, 1, -1, 1))[:, 0]


def _regressors(grey: Tensor) -> Tensor:
    """(N, 4, H, W): ∂x/∂row, ∂x/∂column, x, ∇²x."""
    curvature = blurred(grey, down=2) + blurred(grey, right=2)
    return torch.stack([blurred(grey, down=1), blurred(grey, right=1), blurred(grey), curvature], dim=1)


def _windows(maps: Tensor) -> Tensor:
    """(N, C, H, W) → (N, k, side², C): windows that half overlap, evenly spread over the image."""
    cut = [
        maps[:, :, top : top + WINDOW_PX, left : left + WINDOW_PX] for top, left in _corners(*maps.shape[2:])
    ]
    return torch.stack(cut, dim=1).flatten(3).transpose(2, 3)


def _corners(height: int, width: int) -> list[tuple[int, int]]:
    """The windows' top left corners, from border to border, at most half a window apart where that is not too many."""
    corners = [(top, left) for top in _places(height) for left in _places(width)]
    step = max(1, math.ceil(len(corners) / _MOST_WINDOWS))
    return corners[::step]


def _places(extent: int) -> list[int]:
    """Where windows begin along an axis."""
    count = math.ceil((extent - WINDOW_PX) / (WINDOW_PX / 2))
    return [round(i * (extent - WINDOW_PX) / max(count, 1)) for i in range(count + 1)]


def _solve(windows: Tensor) -> tuple[Tensor, Tensor]:
    """From regressors (N, k, P, 4): (N, k, 3, P), which gives the coefficients of ∇x and x from the pixels of x̃, and
    (N, k, 2, 2), S."""
    line = torch.linspace(-1, 1, WINDOW_PX, device=windows.device)
    light = torch.stack(torch.meshgrid(line, line, indexing="ij"), dim=-1).reshape(-1, 2)
    x = torch.cat([windows, light.expand(*windows.shape[:2], -1, -1)], dim=-1).double()
    x = x - x.mean(dim=2, keepdim=True)  # e
    normal = x.transpose(2, 3) @ x
    scale = normal.diagonal(dim1=2, dim2=3).clamp_min(1e-9).sqrt()
    product = scale[..., :, None] * scale[..., None, :]
    inverse = torch.linalg.inv(normal / product + _RIDGE * torch.eye(x.shape[3], device=x.device).double())
    inverse = inverse / product
    known = torch.linalg.inv(inverse[..., :2, :2])  # S, a Schur complement
    solution = inverse[..., :3, :] @ x.transpose(2, 3)
    return solution.float(), known.float()
