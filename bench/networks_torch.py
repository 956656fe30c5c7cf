"""The networks of `networks.py` in PyTorch, eager, as its users write them."""

import math

import torch
from networks import BATCH, LATENT, RATE
from torch import nn
from torch.nn import functional

from numconv.train import Augmentation


def stepping(kind, arrays, x, device="cpu"):
    """Return a call that takes one step of Adam on the next batch and returns the loss; it starts from given parameters."""
    encoder, rest = encoder_of(2 * LATENT if kind == "VAE" else LATENT), head() if kind == "SimCLR" else decoder()
    encoder, rest = encoder.to(device), rest.to(device)
    parameters = [*encoder.parameters(), *rest.parameters()]
    with torch.no_grad():
        for parameter, array in zip(parameters, arrays, strict=True):
            parameter.copy_(torch.from_numpy(array))
    optimizer, images, loss_of = torch.optim.Adam(parameters, RATE), torch.from_numpy(x).to(device), LOSSES[kind]
    generator, order = torch.Generator().manual_seed(0), []

    def step():
        if not order:
            order.extend(torch.randperm(len(images), generator=generator).split(BATCH))
        loss = loss_of(encoder, rest, images[order.pop()])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def encoder_of(outputs):
    """Two convolutions that halve the image, and a dense layer."""
    halve = [nn.Conv2d(1, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 4, 2, 1), nn.ReLU()]
    return nn.Sequential(*halve, nn.Flatten(), nn.Linear(64 * 7 * 7, outputs))


def decoder():
    """The mirror of the encoder."""
    grow = [nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(32, 1, 4, 2, 1)]
    return nn.Sequential(nn.Linear(LATENT, 64 * 7 * 7), nn.ReLU(), nn.Unflatten(1, (64, 7, 7)), *grow)


def head():
    """What is trained with a contrastive encoder and then left out."""
    return nn.Sequential(nn.ReLU(), nn.Linear(LATENT, LATENT))


def autoencoder_loss(encoder, decoder, x):
    """Mean square error per pixel."""
    return functional.mse_loss(decoder(encoder(x)), x)


def vae_loss(encoder, decoder, x):
    """The evidence lower bound of Bernoulli pixels, in nats per image, with numconv's bound on the log-variance."""
    mean, logvar = encoder(x).chunk(2, 1)
    logvar = 10 * torch.tanh(logvar / 10)
    z = mean + torch.exp(logvar / 2) * torch.randn_like(mean)
    nats = functional.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
    kl = -0.5 * torch.sum(1 + logvar - mean**2 - logvar.exp())
    return (nats + kl) / len(x)


def simclr_loss(encoder, head, x):
    """NT-Xent between two random views of each image."""
    with torch.no_grad():
        views = torch.cat([view(x), view(x)])
    z = functional.normalize(head(encoder(views)))
    similar = (z @ z.T / 0.5).fill_diagonal_(-math.inf)
    return functional.cross_entropy(similar, torch.arange(2 * len(x), device=z.device).roll(len(x)))


def view(x, a=Augmentation()):  # noqa: B008  (a NamedTuple, which nobody can write to)
    """Crop and stretch, change contrast and brightness, add noise: the default `Augmentation` of numconv, for a whole batch."""
    u = torch.rand(6, len(x), 1, 1, device=x.device)
    area, half = a.scale[0] + (a.scale[1] - a.scale[0]) * u[0], math.log(a.aspect[1]) / 2 * (2 * u[1] - 1)
    tall, wide = torch.clamp(area.sqrt() / half.exp(), max=1), torch.clamp(area.sqrt() * half.exp(), max=1)
    rows, columns = (torch.linspace(-1, 1, n, device=x.device) for n in x.shape[2:])
    down, along = tall * rows[:, None] + (1 - tall) * (2 * u[2] - 1), wide * columns + (1 - wide) * (2 * u[3] - 1)
    grid = torch.stack([along.expand(-1, x.shape[2], -1), down.expand(-1, -1, x.shape[3])], -1)
    x = functional.grid_sample(x, grid, align_corners=True)
    contrast, brightness = (1 + s * (2 * v[..., None] - 1) for s, v in ((a.contrast, u[4]), (a.brightness, u[5])))
    x = torch.lerp(x.mean((1, 2, 3), keepdim=True), x, contrast) * brightness
    return torch.clamp(x + a.noise * torch.randn_like(x), 0, 1)


LOSSES = {"autoencoder": autoencoder_loss, "VAE": vae_loss, "SimCLR": simclr_loss}
