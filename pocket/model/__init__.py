"""The pocket's networks: autoencoder, text encoder, the parts of its UNet, and the denoiser that is trained."""
