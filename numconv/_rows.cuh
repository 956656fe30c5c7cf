// What looks along an axis: rows of n numbers, `inner` apart, each in the hands of a team of TEAM threads (1, 32 or 256, a block).
//
// With one number between neighbours (inner = 1) a warp or a block walks along its row together; else neighbouring threads walk
// along neighbouring rows. Either way neighbouring threads read neighbouring numbers. Rows are read again rather than kept: what one
// team has just read is in the cache.
#include "_numbers.cuh"

struct Rows {
    long long outer, n, inner;
    double smoothing;
};

__device__ __forceinline__ Sum team_sum(Sum x, Sum* scratch)
{
#if TEAM == 1
    return x;
#elif TEAM == 32
    return warp_sum(x);
#else
    return block_sum(x, scratch);
#endif
}

__device__ __forceinline__ Sum team_max(Sum x, Sum* scratch)
{
#if TEAM > 1
    x = warp_max(x);
#endif
#if TEAM > 32
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
    __syncthreads();
    x = warp_max(scratch[threadIdx.x % (TEAM / 32)]);
    __syncthreads();
#endif
    return x;
}

__device__ __forceinline__ long long first_row() { return first_element() / TEAM; }
__device__ __forceinline__ long long teams() { return threads() / TEAM; }
__device__ __forceinline__ int member() { return threadIdx.x % TEAM; }
__device__ __forceinline__ long long start(long long row, const Rows& r) { return row / r.inner * r.n * r.inner + row % r.inner; }

// A NaN may or may not be taken for the largest: the sum of exponentials is NaN in any case.
__device__ __forceinline__ Sum largest(const Stored* x, const Rows& r, Sum* scratch)
{
    Sum most = widened(x[0]);
    for (long long k = member(); k < r.n; k += TEAM) {
        const Sum here = widened(x[k * r.inner]);
        most = here > most ? here : most;
    }
    return team_max(most, scratch);
}

// The sum of exp(x - most).
__device__ __forceinline__ Sum sum_exp(const Stored* x, Sum most, const Rows& r, Sum* scratch)
{
    Sum total = 0;
    for (long long k = member(); k < r.n; k += TEAM) total += exp(widened(x[k * r.inner]) - most);
    return team_sum(total, scratch);
}
