// The parts of a sum that was split, added in their order: out[e] = parts[0][e] + parts[1][e] + ..., with what comes after.
#include "_numbers.cuh"

struct Parts {
    long long splits, elements, channels, step;  // elements of the answer from one channel to the next
    long long rectify;
};

extern "C" __global__ void __launch_bounds__(256) add_parts(const Sum* parts, const Stored* b, Stored* out, const Parts g)
{
    for (long long e = first_element(); e < g.elements; e += threads()) {
        Sum sum = parts[e];
        for (long long s = 1; s < g.splits; ++s) sum += parts[s * g.elements + e];
        if (b) sum += widened(b[e / g.step % g.channels]);
        store(out[e], g.rectify && sum < 0 ? Sum(0) : sum);
    }
}
