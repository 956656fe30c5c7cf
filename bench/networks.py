"""Three networks for 28 x 28 images, here and in PyTorch, with the same layers, the same first weights and the same optimiser.

`steps(kind)` returns a call for each library that takes one training step on the next batch and returns the loss.
"""

import numpy as np

from numconv import nn, train
from numconv._tree import leaves

BATCH, IMAGES, LATENT, RATE = 128, 2048, 32, 1e-3
KINDS = ["autoencoder", "VAE", "SimCLR"]


def steps(kind):
    """Return the steps of both libraries by name, PyTorch's only where it is installed."""
    import peers

    x = np.random.default_rng(1).random((IMAGES, 1, 28, 28), np.float32)
    model = ours(kind)
    params = model.init(np.random.default_rng(0), (1, 28, 28))
    found = {"numconv": _stepping(model, params, x)}
    if peers.torch:
        import networks_torch

        found["PyTorch"] = networks_torch.stepping(kind, [np.array(a) for a in leaves(params)], x)
    return found


def ours(kind):
    """Build the model: convolutions that halve 28 to 14 to 7, a dense layer, and the mirror of both."""
    out = 2 * LATENT if kind == "VAE" else LATENT
    halve = [nn.Conv(32, 4, stride=2, padding=1), nn.Relu(), nn.Conv(64, 4, stride=2, padding=1), nn.Relu()]
    encoder = nn.Chain([*halve, nn.Flatten(), nn.Linear(out)])
    if kind == "SimCLR":
        return train.Contrastive(encoder, nn.Chain([nn.Relu(), nn.Linear(LATENT)]))
    grow = [nn.ConvTranspose(32, 4, stride=2, padding=1), nn.Relu(), nn.ConvTranspose(1, 4, stride=2, padding=1)]
    decoder = nn.Chain([nn.Linear(64 * 7 * 7), nn.Relu(), nn.Reshape((64, 7, 7)), *grow])
    return train.VAE(encoder, decoder) if kind == "VAE" else train.Autoencoder(encoder, decoder)


def _stepping(model, params, x):
    endless = train.fit(model, params, x, optimizer=train.adam(RATE), epochs=1_000_000, batch_size=BATCH)
    return lambda: next(endless).terms["loss"]
