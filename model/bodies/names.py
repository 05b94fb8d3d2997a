"""Orders and names of joints and keypoints, shared by every hand and head."""

from __future__ import annotations

FACE_KEYPOINTS, HAND_KEYPOINTS = 68, 21  # iBUG's and MediaPipe's
KEYPOINTS = FACE_KEYPOINTS + HAND_KEYPOINTS
JAW_KEYPOINTS = 17  # the first of the face, on its outline

FINGERS = ("index", "middle", "pinky", "ring", "thumb")  # MANO's order
HAND_JOINTS = ("wrist", *(f"{finger}{k}" for finger in FINGERS for k in (1, 2, 3)))
HAND_PARENTS = (-1, *(0 if k == 1 else 3 * finger + k - 1 for finger in range(5) for k in (1, 2, 3)))
TIPS = ("thumb", "index", "middle", "ring", "pinky")  # points 16..20 after the 16 joints, as otaheri/MANO appends them
# MediaPipe/OpenPose order: wrist, then thumb, index, middle, ring, pinky, each from its base to its tip.
MEDIAPIPE_FROM_POINTS = (0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20)
KEYPOINT_BONES = (
    0,
    13,
    14,
    15,
    15,
    1,
    2,
    3,
    3,
    4,
    5,
    6,
    6,
    10,
    11,
    12,
    12,
    7,
    8,
    9,
    9,
)  # the joint that moves each of them

HEAD_JOINTS = ("root", "neck", "jaw", "left_eye", "right_eye")  # FLAME's order
HEAD_PARENTS = (-1, 0, 1, 1, 1)
HEAD_MIRROR_JOINTS = (0, 1, 2, 4, 3)
IBUG_MIRROR = (
    *range(16, -1, -1),
    *range(26, 16, -1),
    *(27, 28, 29, 30, 35, 34, 33, 32, 31),
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
    *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65),
)
