"""What became of many images, in sums and first examples: of a tree, or of one shard after the other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from simgan.data.trees import Reject, TreeScan
from simgan.images import LOSSY_SUFFIXES
from simgan.refinement.journal import Row


@dataclass(frozen=True)
class Tally:
    """Sums over images. Levels are native integers: their sums do not depend on the order of the images."""

    images: int = 0
    refined: int = 0
    unchanged: int = 0  # of the refined ones: every pixel came out as it was
    lossy: int = 0  # written with loss (JPEG)
    clipped: int = 0  # values that lay outside the trained range
    clipped_images: int = 0
    off_grid_images: int = 0  # with values between the levels of the range
    odd_images: int = 0  # of a size outside those of the training images
    first_odd: tuple[str, int, int] | None = None  # path, height, width
    values: int = 0
    low: int | None = None
    high: int | None = None
    total: int = 0  # Σv
    squares: int = 0  # Σv²
    rejects: tuple[tuple[str, str], ...] = ()  # path, reason
    drifted: tuple[
        str, ...
    ] = ()  # those of the rejects whose structure moved too far, or was not found again
    unfollowed: int = 0  # refined ones whose drift was not measured
    first_unfollowed: str | None = None

    @classmethod
    def of(cls, rows: Iterable[Row], scan: TreeScan) -> Tally:
        """Over rows in order of their paths; `scan` is that of the training images."""
        rows = list(rows)
        done = [row for row in rows if row.reason is None]
        unfollowed = [row.path for row in done if row.drift_px is None]
        heights, widths = zip(*scan.sizes, strict=True)
        odd = [
            row
            for row in done
            if not (min(heights) <= row.height <= max(heights) and min(widths) <= row.width <= max(widths))
        ]
        return cls(
            images=len(rows),
            refined=len(done),
            unchanged=sum(row.unchanged for row in done),
            lossy=sum(is_lossy(row) for row in done),
            clipped=sum(row.outside for row in done),
            clipped_images=sum(row.outside > 0 for row in done),
            off_grid_images=sum(row.off_grid > 0 for row in done),
            odd_images=len(odd),
            first_odd=(odd[0].path, odd[0].height, odd[0].width) if odd else None,
            values=sum(row.values for row in done),
            low=min((row.low for row in done), default=None),
            high=max((row.high for row in done), default=None),
            total=sum(row.total for row in done),
            squares=sum(row.squares for row in done),
            rejects=tuple((row.path, row.reason) for row in rows if row.reason is not None),
            drifted=tuple(row.path for row in rows if row.drifted),
            unfollowed=len(unfollowed),
            first_unfollowed=unfollowed[0] if unfollowed else None,
        )

    def __add__(self, other: Tally) -> Tally:
        """Over the images of both, those of `self` first."""
        lows = [low for low in (self.low, other.low) if low is not None]
        highs = [high for high in (self.high, other.high) if high is not None]
        sums = {
            name: getattr(self, name) + getattr(other, name)
            for name in (
                "images", "refined", "unchanged", "lossy", "clipped", "clipped_images", "off_grid_images",
                "odd_images", "values", "total", "squares", "rejects", "drifted", "unfollowed",
            )
        }  # fmt: skip
        return replace(
            self,
            **sums,
            first_odd=self.first_odd or other.first_odd,
            first_unfollowed=self.first_unfollowed or other.first_unfollowed,
            low=min(lows, default=None),
            high=max(highs, default=None),
        )

    def unusable(self) -> list[Reject]:
        """The rejects that could not be refined at all: of these a tree may hold no more than a share."""
        drifted = set(self.drifted)
        return [Reject(path, reason) for path, reason in self.rejects if path not in drifted]

    def levels(self) -> dict[str, float]:
        """Lowest, highest, mean and standard deviation over all values of all images; one is refined at least."""
        assert self.low is not None
        assert self.high is not None
        # In integers, where nothing cancels: Var = (n Σv² − (Σv)²)/n².
        spread = self.values * self.squares - self.total**2
        return {
            "low": self.low,
            "high": self.high,
            "mean": self.total / self.values,
            "std": math.sqrt(spread) / self.values,
        }

    def counts(self, n_carried: int) -> dict[str, int]:
        """The `counts` of a manifest."""
        return {
            "images": self.images,
            "refined": self.refined,
            "unchanged": self.unchanged,
            "clipped": self.clipped,
            "lossy": self.lossy,
            "rejected": len(self.rejects),
            "drifted": len(self.drifted),
            "carried": n_carried,
        }

    def to_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> Tally:
        """The inverse of `to_dict`, also after a trip through JSON."""
        first, rejects = entries["first_odd"], entries["rejects"]
        return cls(
            **{
                **entries,
                "first_odd": None if first is None else tuple(first),
                "rejects": tuple((path, reason) for path, reason in rejects),
                "drifted": tuple(entries["drifted"]),
            }
        )


def is_lossy(row: Row) -> bool:
    """Whether the file was written with loss: a JPEG that was not just carried."""
    return PurePosixPath(row.path).suffix.lower() in LOSSY_SUFFIXES and not row.unchanged
