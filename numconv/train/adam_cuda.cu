// One step of Adam: each number is read once and written once, in one launch per array of parameters.
//
// 28 bytes per parameter of float32 and some ten operations, so the bound is memory (a prediction: no GPU has run this).
// A thread owns one number at a time and walks on by the size of the grid.

#include "_numbers.cuh"

// The fields of adam_cuda.Numbers, in its order.
struct Numbers {
    long long n;
    double b1, b2, scale, floor, shrink;
};

__device__ __forceinline__ float root(float x) { return sqrtf(x); }
__device__ __forceinline__ double root(double x) { return sqrt(x); }

extern "C" __global__ void adam_moved(const Stored* p, const Stored* g, const Stored* mean, const Stored* square, Stored* p_after,
                                      Stored* mean_after, Stored* square_after, const Numbers c)
{
    // The complements are taken in double: 1 - 0.999 in float is wrong in its fifth digit.
    const Sum b1 = c.b1, b2 = c.b2, new1 = 1 - c.b1, new2 = 1 - c.b2, scale = c.scale, floor = c.floor, shrink = c.shrink;
    for (long long i = first_element(); i < c.n; i += threads()) {
        const Sum at = widened(p[i]), slope = widened(g[i]);
        const Sum m = b1 * widened(mean[i]) + new1 * slope, v = b2 * widened(square[i]) + new2 * (slope * slope);
        store(mean_after[i], m);
        store(square_after[i], v);
        store(p_after[i], at - scale * (m / (root(v) + floor)) - shrink * at);
    }
}
