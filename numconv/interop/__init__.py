"""numconv inside other libraries' automatic differentiation: `numconv.interop.torch` and `numconv.interop.jax`.

Each module has every function of numconv that has a gradient, under its own name and with its own arguments.
"""
