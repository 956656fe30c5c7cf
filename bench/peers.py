"""What benchmarks share: which peers are installed, on as many threads as numconv, and arrays in their hands."""

import importlib.util

import numba
import numpy as np

PEERS = ["numconv", *(["torch"] if importlib.util.find_spec("torch") else [])]


def torch():
    """Return PyTorch on Numba's number of threads."""
    import torch as peer

    peer.set_num_threads(numba.get_num_threads())
    return peer


def normals(*shapes):
    """Return one float32 array of standard normal numbers per shape, the same every time."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, np.float32) for shape in shapes]


def forward_and_back(f, *arrays, **settings):
    """Return a call of PyTorch's `f` and of its gradients in all arrays, for a cotangent of ones."""
    peer = torch()
    leaves = [peer.from_numpy(a).requires_grad_() for a in arrays]

    def call():
        y = f(*leaves, **settings)
        return peer.autograd.grad(y, leaves, peer.ones_like(y))

    return call
