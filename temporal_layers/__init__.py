"""Temporal layers: small modules attached behind the anchors (named modules) of a frozen image UNet. torch only.

A family of temporal layers is defined by its anchors, the module behind each anchor, and its key names.
Frames are the batch dimension in (video, frame) order throughout: activations are (b t) c h w.
"""
