"""Training stages of the pocket, from the autoencoder to the interpolation layers, and the export of their results."""
