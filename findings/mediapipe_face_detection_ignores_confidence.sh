#!/usr/bin/env bash
# mediapipe 0.10.14: `mp.solutions.face_detection.FaceDetection` takes `min_detection_confidence` and does not use it. With 0.99 it gives
# the same faces as with 0.1, among them scores of 0.76, and none below its own 0.5 either way. The score of each face has to be
# compared by the caller.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "mediapipe==0.10.14" "numpy==1.26.4" "opencv-contrib-python==4.11.0.86"
"$folder/venv/bin/python" - 2> /dev/null <<'PYTHON'
import sys
from importlib.metadata import version

import cv2
import mediapipe
import numpy as np


def draw_face(blur):
    """A plain drawn face, 256 x 256 RGB, made less sharp."""
    picture = np.full((256, 256, 3), (200, 190, 180), np.uint8)
    x = y = 128
    cv2.ellipse(picture, (x, y), (60, 80), 0, 0, 360, (190, 140, 110), -1, cv2.LINE_AA)
    cv2.ellipse(picture, (x, y - 60), (62, 45), 0, 180, 360, (60, 40, 30), -1, cv2.LINE_AA)
    for side in (-25, 25):
        cv2.ellipse(picture, (x + side, y - 15), (12, 6), 0, 0, 360, (240, 240, 240), -1, cv2.LINE_AA)
        cv2.circle(picture, (x + side, y - 15), 5, (50, 30, 20), -1, cv2.LINE_AA)
        cv2.line(picture, (x + side - 14, y - 30), (x + side + 14, y - 32), (70, 45, 30), 4, cv2.LINE_AA)
    cv2.line(picture, (x, y - 10), (x - 6, y + 18), (150, 100, 80), 3, cv2.LINE_AA)
    cv2.line(picture, (x - 6, y + 18), (x + 6, y + 18), (150, 100, 80), 3, cv2.LINE_AA)
    cv2.ellipse(picture, (x, y + 40), (22, 8), 0, 0, 360, (170, 70, 70), -1, cv2.LINE_AA)
    return cv2.GaussianBlur(picture, (0, 0), blur)


pictures = [draw_face(blur) for blur in (1, 2, 4, 6, 8)]
print("mediapipe", version("mediapipe"))
as_found = True
for model, name in ((0, "short range"), (1, "full range")):
    scores = {}
    for confidence in (0.1, 0.99):
        with mediapipe.solutions.face_detection.FaceDetection(
            model_selection=model, min_detection_confidence=confidence
        ) as detector:
            found = [detector.process(picture).detections or [] for picture in pictures]
        scores[confidence] = [round(face.score[0], 2) for faces in found for face in faces]
        print(f"{name}, min_detection_confidence={confidence}: scores {scores[confidence]}")
    as_found &= scores[0.1] == scores[0.99] and len(scores[0.99]) > 0 and min(scores[0.99]) < 0.9
print("as found" if as_found else "CHANGED")
sys.exit(0 if as_found else 1)
PYTHON
