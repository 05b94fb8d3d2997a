"""Mix two data sets and train: three quarters from scenes with 3D labels, one quarter from photos without.

python examples/train_mix.py out/synthetic out/parts out/run
"""

import sys

from handface.trainers.config import TrainConfig
from handface.trainers.data import DataConfig, DatasetConfig
from handface.trainers.trainer import train


def main(labelled: str, photos: str, output: str, steps: int = 1000, batch_size: int = 16) -> int:
    """Returns the steps that were done."""
    datasets = (
        DatasetConfig("scenes", (labelled,), weight=3.0),
        DatasetConfig("photos", (photos,), weight=1.0, weak=True),
    )
    data = DataConfig(datasets, image_size=128, batch_size=batch_size)
    result = train(TrainConfig(data=data, output=output, preset="dice-nano", steps=steps))
    return result.steps


if __name__ == "__main__":
    print("steps", main(*sys.argv[1:4]))
