#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93: after `set(CAP_PROP_POS_MSEC, t)` on a film of variable frame rate, as phones write them, `read()` gives
# a picture of another time: the time is turned into a frame number by the film's average rate. Asked for 0.5, 1, 2 and 3 s it gives the
# pictures of 0.23, 0.5, 2.5 and 3.6 s. PyAV reads the right times from the same file.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "opencv-python-headless==5.0.0.93" "av==15.1.0" "numpy==2.2.6"
FOLDER="$folder" "$folder/venv/bin/python" - <<'PYTHON'
import os
import sys
from fractions import Fraction

import av
import cv2
import numpy as np

path = os.path.join(os.environ["FOLDER"], "film.mp4")
# 30 pictures a second, then 10 a second, as in the dark; picture i has grey 10 + 3 i, and every one is a key frame
times = [i / 30 for i in range(30)] + [1 + i / 10 for i in range(30)]
ticks = Fraction(1, 600)
with av.open(path, "w") as film:
    stream = film.add_stream("mpeg4", rate=30)
    stream.width = stream.height = 64
    stream.pix_fmt = "yuv420p"
    stream.time_base = stream.codec_context.time_base = ticks
    stream.codec_context.gop_size = 1
    for i, time in enumerate(times):
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 10 + 3 * i, np.uint8), format="rgb24")
        frame.pts, frame.time_base = round(time / ticks), ticks
        film.mux(stream.encode(frame))
    film.mux(stream.encode())


def number(picture):
    """The picture's number, from its grey; near the ends of the scale the film's range moves it by a step."""
    return round((float(picture.mean()) - 10) / 3)


with av.open(path) as film:
    stored = [round(float(frame.time), 2) for frame in film.decode(video=0)]
print("PyAV", av.__version__, "reads the times that were written:", stored == [round(time, 2) for time in times])
capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
print("OpenCV", cv2.__version__, f"says {capture.get(cv2.CAP_PROP_FPS):.2f} frames a second")
wrong = []
for asked in (0.5, 1.0, 2.0, 3.0):
    capture.set(cv2.CAP_PROP_POS_MSEC, asked * 1000)
    read, picture = capture.read()
    given = times[min(number(picture), len(times) - 1)] if read else float("nan")
    print(f"asked for {asked} s: picture of {given:.2f} s, off by {given - asked:+.2f} s")
    wrong.append(abs(given - asked) > 0.2)
as_found = all(wrong) and stored == [round(time, 2) for time in times]
print("as found" if as_found else "CHANGED")
sys.exit(0 if as_found else 1)
PYTHON
