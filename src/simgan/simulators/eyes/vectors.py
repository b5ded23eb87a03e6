"""Three-dimensional vectors and rotations as tuples of tensors, one tensor for each coordinate.

Only +, −, ×, ÷ and √ are used on pixels: these are rounded the same way on every device, in every batch.
"""

from __future__ import annotations

import torch

Vector = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
Matrix = tuple[Vector, Vector, Vector]  # rows


def dot(a: Vector, b: Vector) -> torch.Tensor:
    """a · b."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def along(origin: Vector, t: torch.Tensor, direction: Vector) -> Vector:
    """origin + t · direction."""
    return (origin[0] + t * direction[0], origin[1] + t * direction[1], origin[2] + t * direction[2])


def normalized(a: Vector) -> Vector:
    """a / ‖a‖."""
    inverse = 1 / dot(a, a).sqrt()
    return (a[0] * inverse, a[1] * inverse, a[2] * inverse)


def turn(m: Matrix, a: Vector) -> Vector:
    """M a."""
    return (dot(m[0], a), dot(m[1], a), dot(m[2], a))


def turn_back(m: Matrix, a: Vector) -> Vector:
    """Mᵀ a, for a rotation its inverse."""
    return turn(transposed(m), a)


def transposed(m: Matrix) -> Matrix:
    """Mᵀ."""
    return (
        (m[0][0], m[1][0], m[2][0]),
        (m[0][1], m[1][1], m[2][1]),
        (m[0][2], m[1][2], m[2][2]),
    )


def product(a: Matrix, b: Matrix) -> Matrix:
    """A B."""
    columns = transposed(b)
    return (
        (dot(a[0], columns[0]), dot(a[0], columns[1]), dot(a[0], columns[2])),
        (dot(a[1], columns[0]), dot(a[1], columns[1]), dot(a[1], columns[2])),
        (dot(a[2], columns[0]), dot(a[2], columns[1]), dot(a[2], columns[2])),
    )


def pitch_up(degrees: torch.Tensor) -> Matrix:
    """About x: turns +z (toward the camera) to +y (up)."""
    cos, sin, one, zero = _circle(degrees)
    return ((one, zero, zero), (zero, cos, sin), (zero, -sin, cos))


def yaw_right(degrees: torch.Tensor) -> Matrix:
    """About y: turns +z (toward the camera) to +x (right)."""
    cos, sin, one, zero = _circle(degrees)
    return ((cos, zero, sin), (zero, one, zero), (-sin, zero, cos))


def roll_left(degrees: torch.Tensor) -> Matrix:
    """About z: turns +x (right) to +y (up), counter-clockwise in the image."""
    cos, sin, one, zero = _circle(degrees)
    return ((cos, -sin, zero), (sin, cos, zero), (zero, zero, one))


def direction(yaw_degrees: torch.Tensor, pitch_degrees: torch.Tensor) -> Vector:
    """The unit vector that points `yaw` to the right and `pitch` up of +z, toward the camera."""
    yaw, pitch = torch.deg2rad(yaw_degrees), torch.deg2rad(pitch_degrees)
    return (yaw.sin() * pitch.cos(), pitch.sin(), yaw.cos() * pitch.cos())


def _circle(degrees: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    angle = torch.deg2rad(degrees)
    return angle.cos(), angle.sin(), torch.ones_like(angle), torch.zeros_like(angle)
