"""Frame interpolation without weights: optical flow, warping, blending. Torch, OpenCV and kornia only."""
