"""Frame interpolation without weights: optical flow, warping, blending. Needs only torch, OpenCV and kornia."""
