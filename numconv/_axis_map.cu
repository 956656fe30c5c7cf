// A sparse linear map along one axis of an array (outer, size, inner): y[o,p,j] = sum over k of weight[k,p] * x[o,source[k,p],j].
//
// One thread owns one element of y at a time; neighbours own neighbours along the last axis. The adjoint is a map of the same kind,
// so nothing is ever added to by two threads, and every sum is in the order of k.

#include "_division.cuh"
#include "_numbers.cuh"

#if WIDE
typedef long long Index;
#else
typedef int Index;
#endif

// The fields of Along, in its order; `by_` are what `quotient` needs.
struct Along {
    long long outer, size, out, inner, entries, by_out, by_inner;
};

extern "C" __global__ void along(const Stored* x, const Index* source, const Sum* weight, Stored* y, const Along g)
{
    const Index out = g.out, inner = g.inner;
    for (long long e = first_element(); e < g.outer * g.out * g.inner; e += threads()) {
        const Index row = quotient((Index)e, inner, g.by_inner), o = quotient(row, out, g.by_out);
        const Index p = row - o * out, j = (Index)e - row * inner;
        const Stored* const from = x + o * (Index)g.size * inner + j;
        Sum sum = 0;
        for (Index k = 0; k < g.entries; ++k) sum += weight[k * out + p] * widened(from[source[k * out + p] * inner]);
        store(y[e], sum);
    }
}
