"""benchmarks.lips animates one frame of a built avatar."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks import lips
from tests import footage
from tests.audio import SPEECH
from warmtalk.config import Config
from warmtalk.core.bundle import Bundle
from warmtalk.models.mesh.landmark_measures import lip_gap
from warmtalk.renderers import loading


def test_a_clip_is_drawn_from_its_most_closed_frame(tmp_path: Path) -> None:
    source = lips.build_avatar(footage.film(tmp_path / "film.mp4", footage.panned(15)), Config(), tmp_path)
    still = lips.closed_frame_bundle(source, tmp_path / "still")
    row = int(np.argmin(lip_gap(source.faces.landmarks)))
    assert len(still) == 1 and np.abs(still.frame(0).astype(int) - source.frame(row)).mean() < 3
    assert np.array_equal(still.landmarks(0), source.landmarks(row)) and still.paste_box(0) == source.paste_box(row)
    assert still.usable(0)
    drawn = list(lips.render_frames(Bundle(still.path), loading.load("mesh", Config()), SPEECH[:8000]))
    assert len(drawn) == 13 and not np.array_equal(drawn[0], drawn[8])
