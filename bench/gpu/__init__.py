"""The GPU's half hour in one command, `python -m bench.gpu`: are the kernels right on it, and how fast beside PyTorch's cuDNN?"""
