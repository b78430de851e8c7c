"""The five ablations of Emu Video (section 4.2, Table 1) at pocket scale, judged by the reader."""
