// Means of whole planes: a block adds up a plane at a time, its threads side by side, and then one another in a fixed order.

#include "_numbers.cuh"

// The fields of Planes, in its order.
struct Planes {
    long long planes, volume;
};

// y[i] = the mean of plane i of x. Blocks are of whole warps.
extern "C" __global__ void plane_means(const Stored* x, Stored* y, const Planes g)
{
    __shared__ Sum scratch[32];
    for (long long i = blockIdx.x; i < g.planes; i += gridDim.x) {
        const Stored* const plane = x + i * g.volume;
        Sum sum = 0;
        for (long long q = threadIdx.x; q < g.volume; q += blockDim.x) sum += widened(plane[q]);
        sum = block_sum(sum, scratch);
        if (threadIdx.x == 0) store(y[i], sum / (Sum)g.volume);
    }
}
