"""Blind pairwise judging with reasons: JUICE, "justify your choice" (Emu Video, section 4)."""
