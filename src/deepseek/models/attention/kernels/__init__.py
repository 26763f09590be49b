"""Kernels of gated block attention, forward and backward, in Triton for NVIDIA and AMD GPUs.

A key block is a tile of a matrix product, and the gate's and the distances' terms are constant within one: they cost
one small product for 16 blocks. :mod:`.forward` has the outputs; the gradients are computed once by query
(:mod:`.query_gradients`) and once by key (:mod:`.key_gradients`), so that no two programs add to the same numbers and
nothing depends on their order. :mod:`.lists` sorts who attends to whom, :mod:`.tiling` says what is compiled,
:mod:`.launches` runs it and :mod:`.function` makes it differentiable.

Time and memory are those of :mod:`deepseek.models.attention.sparse`: O(T log T) products, O(T) memory and, for tokens
that choose by themselves, a buffer of bounded size and lists of O(T log T) integers.

Not here: blocks of other widths than 16, 32, 64 and 128, heads of more than 128 features, float64, float32 of large
heads or blocks (it would spill registers), where the plain PyTorch path answers and the log says why
(:mod:`.available`); grouped keys and values, queries that are the end of a longer sequence, second derivatives.
"""
