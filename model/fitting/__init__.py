"""From keypoints in a picture and a network's guess to bodies that lie on it and touch without passing through each other."""
