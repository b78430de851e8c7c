"""The temporal modules, one a file. What they share: `base` (how they hang), `frames` (attention, positions, norms).

Each maps (b t) c h w to the same shape. The two of Emu Video mix frames only (each pixel by itself), keep the memory
layout of their input (contiguous or channels_last), and are the identity, bit for bit, with the weights that `zero_`
leaves. All weights live in leaf layers of `operations` (torch.nn, or a namespace with the same constructors that casts
weights when called). These layers are called, their weights are never read.
"""
