"""Print the table of the model card: every speaker predicted by maps and networks trained without this speaker.

python -m training.mouth.report CORPUS_FOLDER FOLDS_FOLDER    # after train --folds FOLDS_FOLDER
"""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np

from training.mouth.corpus import FOLDS, Clip, Floats, fold_of, load_corpus
from training.mouth.evaluate import Figures, figures, table
from training.mouth.linear import MouthFromSound
from training.mouth.ridge import fit_clips, save
from warmtalk.core.ports import SpeechEncoder
from warmtalk.core.types import FrameClock
from warmtalk.models.mouth.net import TrainedMouth

TRACK_CLOCK = FrameClock(Fraction(100))
"""Clock of the predictions: run-time encoders at 100 frames a second."""


def track(encoder: SpeechEncoder, clip: Clip) -> Floats:
    stream = encoder.start_stream(TRACK_CLOCK)
    return np.concatenate([stream.push_audio(clip.samples), stream.finish()])


def unmet_by(clips: list[Clip], encoders: list[SpeechEncoder]) -> dict[str, Figures]:
    """Returns the figures of each corpus; encoder k was trained without the speakers of fold k."""
    folds = fold_of([clip.speaker for clip in clips])
    corpora = sorted({clip.corpus for clip in clips})
    return {
        corpus: figures(
            [clip for clip in clips if clip.corpus == corpus],
            lambda clip: track(encoders[folds[clip.speaker]], clip),
        )
        for corpus in corpora
    }


def fit_maps(clips: list[Clip], folder: Path) -> list[Path]:
    """Fits the linear map of the signal-processing mouth for each fold. Returns the files."""
    folds = fold_of([clip.speaker for clip in clips])
    paths = [folder / f"ridge_{k}.npz" for k in range(FOLDS)]
    for k, path in enumerate(paths):
        save(fit_clips([clip for clip in clips if folds[clip.speaker] != k]), path)
    return paths


def main() -> None:
    clips, folder = load_corpus(Path(sys.argv[1])), Path(sys.argv[2])
    by_map: list[SpeechEncoder] = [MouthFromSound(path) for path in fit_maps(clips, folder)]
    by_net: list[SpeechEncoder] = [TrainedMouth(folder / f"fold_{k}.safetensors") for k in range(FOLDS)]
    rows = {f"{corpus}, map": row for corpus, row in unmet_by(clips, by_map).items()}
    rows |= {f"{corpus}, network": row for corpus, row in unmet_by(clips, by_net).items()}
    sys.stdout.write(table(rows) + "\n")


if __name__ == "__main__":
    main()
