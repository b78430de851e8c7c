"""Temporal layers: small modules hung behind the anchors (named modules) of a frozen image UNet. torch only.

A family of temporal layers is three things: which anchors, which module behind each, which key names.
Frames are the batch dimension in (video, frame) order throughout: activations are (b t) c h w.
"""
