"""Train the mouth network on one thread, from a fixed seed.

python -m training.mouth.train CORPUS_FOLDER --folds     # a network for each fold, trained without its speakers
python -m training.mouth.train CORPUS_FOLDER --out src/warmtalk/models/data/mouth_net.safetensors   # on all speakers
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import cast

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor, nn

from training.mouth.align import LOOSE, aligned, best_move
from training.mouth.batches import Batch, Example, batch, batches, example
from training.mouth.corpus import FOLDS, Clip, fold_of, load_corpus, moved
from training.mouth.net import MouthNet

logger = logging.getLogger(__name__)

FIRST_EPOCHS, EPOCHS = 15, 40
BATCH = 32
RATE = 2e-3
DECAY = 0.02
MEMORY = 0.995
"""Decay of the running mean of the weights; the mean is the saved network."""
REPEATS = {"grid_s1": 0.15, "grid_multi": 3.0, "lrwar_arabic": 1.0}
"""Repetitions of a clip in an epoch, by corpus. Many clips of one speaker transfer worse than few clips of many
speakers."""
SHIFTS = (-1, 0, 1)
"""Offsets tried for a loosely cut clip. Steps of 20 ms."""


def at(outputs: Tensor, steps: Tensor) -> Tensor:
    """Interpolates outputs [batch, 4, S] at fractional steps [batch, T]. Returns [batch, T, 4]."""
    steps = steps.clamp(0, outputs.shape[2] - 1)
    low = steps.floor().long().clamp(max=outputs.shape[2] - 2)
    share = (steps - low).float()[:, None]
    low = low[:, None].expand(-1, outputs.shape[1], -1)
    return ((1 - share) * outputs.gather(2, low) + share * outputs.gather(2, low + 1)).transpose(1, 2)


def clip_losses(outputs: Tensor, batch: Batch) -> Tensor:
    """Returns [batch] the loss of every clip at its offset: shape, speed, closures."""
    predicted, real, weight = outputs, batch.targets, batch.weight
    shape = (predicted - real)[..., :3] ** 2
    closing = 1.0 + 1.5 * real[..., 3]
    speed = ((predicted.diff(dim=1) - real.diff(dim=1))[..., :2] ** 2) * weight[:, 1:, None]
    press = nn.functional.binary_cross_entropy_with_logits(predicted[..., 3], real[..., 3], reduction="none")
    still = predicted[..., :3].abs().sum(2) * (batch.speaks == 0)
    frames = weight.sum(1).clamp(min=1)
    per_frame = shape[..., 0] * closing + 0.3 * shape[..., 1] + 0.1 * shape[..., 2] + 0.3 * press + 0.1 * still
    return ((per_frame * weight).sum(1) + 0.5 * speed[..., 0].sum(1) + 0.15 * speed[..., 1].sum(1)) / frames


def loss_of(net: MouthNet, batch: Batch) -> Tensor:
    """Returns the mean loss over frames. Loosely cut clips are compared at their best offset."""
    outputs = net(batch.features)
    shifted = torch.stack([clip_losses(at(outputs, batch.steps + shift), batch) for shift in SHIFTS])
    best = torch.where(batch.loose, shifted.min(dim=0).values, shifted[SHIFTS.index(0)])
    frames = batch.weight.sum(1)
    return (best * frames).sum() / frames.sum()


def train(examples: list[Example], seed: int, epochs: int = EPOCHS) -> MouthNet:
    torch.manual_seed(seed)
    net = MouthNet()
    net.fit_range(torch.from_numpy(np.concatenate([e.features for e in examples])))
    steps = epochs * -(-len(epoch_examples(examples, seed)) // BATCH)
    optimiser = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps + epochs, pct_start=0.1)
    mean = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(MEMORY))
    for epoch in range(epochs):
        losses = []
        for part in batches(epoch_examples(examples, seed + epoch), BATCH, seed + epoch):
            optimiser.zero_grad()
            loss = loss_of(net, part)
            loss.backward()
            optimiser.step()
            schedule.step()
            mean.update_parameters(net)
            losses.append(loss.item())
        logger.info("epoch %d loss %.4f", epoch, np.mean(losses))
    return cast(MouthNet, mean.module.eval())


def learn(examples: list[Example], seed: int) -> MouthNet:
    """Trains in two rounds; the first network aligns the loosely cut clips better than the linear map."""
    net = train(examples, seed, FIRST_EPOCHS)
    return train([realigned(net, e) for e in examples], seed)


def realigned(net: MouthNet, known: Example) -> Example:
    """Returns a loosely cut clip at its best offset for `net`, and any other clip unchanged."""
    if known.clip.corpus not in LOOSE:
        return known
    one = batch([known])
    with torch.no_grad():
        predicted = at(net(one.features), one.steps)[0, :, 0].numpy()
    move, _ = best_move(predicted, known.clip.opening, max_offset=2)
    return example(moved(known.clip, move)) if move else known


def epoch_examples(examples: list[Example], seed: int) -> list[Example]:
    """Returns the clips of one epoch, repeated by REPEATS; a random draw decides on the fraction."""
    rng = np.random.default_rng(seed)
    times = [REPEATS.get(e.clip.corpus, 1.0) for e in examples]
    counts = [int(t) + int(draw < t % 1) for t, draw in zip(times, rng.random(len(times)), strict=True)]
    return [e for e, count in zip(examples, counts, strict=True) for _ in range(count)]


def save(net: MouthNet, path: Path) -> None:
    """Saves the weights; convolutions as [taps, in, out], the order of the run time."""
    arrays = {}
    for name, value in net.state_dict().items():
        array = value.numpy()
        arrays[name] = np.ascontiguousarray(array.transpose(2, 1, 0) if array.ndim == 3 else array, np.float32)
    save_file(arrays, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--folds", type=Path, metavar="FOLDER", help="writes fold_<k>.safetensors here")
    parser.add_argument("--out", type=Path, help="writes the network of all speakers here")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--without", default="", metavar="CORPUS", help="leaves a corpus out of the training")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    clips = load_corpus(options.corpus)
    folds = fold_of([clip.speaker for clip in clips])
    for k in range(FOLDS if options.folds else 0):
        options.folds.mkdir(parents=True, exist_ok=True)
        known = [clip for clip in clips if folds[clip.speaker] != k and clip.corpus != options.without]
        net = learn(examples_of(known), options.seed)
        save(net, options.folds / f"fold_{k}.safetensors")
    if options.out:
        save(learn(examples_of([clip for clip in clips if clip.corpus != options.without]), options.seed), options.out)


def examples_of(clips: list[Clip]) -> list[Example]:
    return [example(clip) for clip in aligned(clips)]


if __name__ == "__main__":
    main()
