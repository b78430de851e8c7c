"""The temporal modules, one per file. Shared code: `base` (attachment) and `frames` (attention, positions, norms).

Each maps (b t) c h w, or (b t) c for the timestep embedding, to the same shape. The two of Emu Video mix only frames
(each pixel independently) and keep the memory layout of their input (contiguous or channels_last). After `zero_` they
are the identity, bit for bit. All weights are in leaf layers of `operations` (torch.nn, or a namespace with the same
constructors that casts weights when called). Call these layers; do not read their weights.
"""
