"""One photo -> everybody's hand and head mesh, printed and written as one glb file each.

python examples/predict_photo.py photo.jpg out
"""

import sys
from pathlib import Path

import handface
from handface.model.outputs import encode_mesh


def main(photo: str, output: str) -> int:
    """Returns how many people were found."""
    Path(output).mkdir(parents=True, exist_ok=True)
    prediction = handface.load().predict(photo)
    for number, person in enumerate(prediction.persons):
        touching = int((person.head.contact > 0.5).sum())
        print(f"person {number}: {person.side} hand, presence {person.presence:.2f}, {touching} face vertices touch")
        (Path(output) / f"person_{number}.glb").write_bytes(encode_mesh(person, "glb", prediction.trained))
    return len(prediction.persons)


if __name__ == "__main__":
    print(main(*sys.argv[1:]), "people")
