"""Transposed convolution of decoders and generators, and its gradients, beside PyTorch."""

import peers
import pytest
from measure import normals
from tables import TRANSPOSED, cases

import numconv


@pytest.mark.parametrize("contraction", ["forward", "dx", "dw"])
@pytest.mark.parametrize("name", cases(TRANSPOSED, ["decoder 7 4x4/2 64-32", "DCGAN 8 4x4/2 256-128"]))
def test_transposed(race, name, contraction):
    layer = TRANSPOSED[name]
    x, w = normals((layer.batch, layer.c_in, layer.height, layer.width), (layer.c_in, layer.c_out, layer.taps, layer.taps))
    settings = {"stride": layer.stride, "padding": layer.padding}
    y, pullback = numconv.conv_transpose2d_vjp(x, w, **settings)
    ours = {
        "forward": lambda: numconv.conv_transpose2d(x, w, **settings),
        "dx": lambda: pullback(y, wrt="x"),
        "dw": lambda: pullback(y, wrt="w"),
    }[contraction]
    sides = _torch(contraction, x, w, y, settings) if peers.torch else {}
    race(ours, sides, table="transposed", row=name, contraction=contraction, work=2 * x.size * w[0].size)


def _torch(contraction, x, w, y, settings):
    tx, tw, ty = map(peers.torch.from_numpy, (x, w, y))
    if contraction == "forward":
        return {"PyTorch": peers.Side(lambda: peers.torch.nn.functional.conv_transpose2d(tx, tw, **settings))}
    stride, padding = ([settings[key]] * 2 for key in ("stride", "padding"))
    mask = [contraction == "dx", contraction == "dw", False]
    backward = peers.torch.ops.aten.convolution_backward
    which = mask.index(True)
    return {"PyTorch": peers.Side(lambda: backward(ty, tx, tw, None, stride, padding, [1, 1], True, [0, 0], 1, mask)[which])}
