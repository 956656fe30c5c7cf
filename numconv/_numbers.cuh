// Numbers as they lie in memory, and as kernels calculate with them; sums over a warp and a block, in one fixed order.
//
// float16 and bfloat16 are bits to a kernel: they are widened where they are read and rounded once where they are written.
#include "_ptx.cuh"

struct f16 {
    unsigned short bits;
};

struct bf16 {
    unsigned short bits;
};

__device__ __forceinline__ float widened(float x) { return x; }
__device__ __forceinline__ double widened(double x) { return x; }
__device__ __forceinline__ float widened(f16 x) { return float_of_half_bits(x.bits); }
__device__ __forceinline__ float widened(bf16 x) { return __uint_as_float((unsigned)x.bits << 16); }

// To the nearest, ties to even.
__device__ __forceinline__ void store(float& to, float x) { to = x; }
__device__ __forceinline__ void store(double& to, double x) { to = x; }
__device__ __forceinline__ void store(f16& to, float x) { to.bits = half_bits(x); }
__device__ __forceinline__ void store(bf16& to, float x)
{
    const unsigned u = __float_as_uint(x);
    to.bits = x != x ? 0x7fc0 : (u + 0x7fff + (u >> 16 & 1)) >> 16;
}

// The sum over the 32 lanes of a warp, the same bits in all of them.
template <class T> __device__ __forceinline__ T warp_sum(T x)
{
    for (int by = 16; by; by /= 2) x += __shfl_xor_sync(0xffffffffu, x, by);
    return x;
}

template <class T> __device__ __forceinline__ T warp_max(T x)
{
    for (int by = 16; by; by /= 2) {
        const T other = __shfl_xor_sync(0xffffffffu, x, by);
        x = other > x || other != other ? other : x;  // NaN wins
    }
    return x;
}

// The sum over a block of whole warps, the same bits in all threads; `scratch` is 32 numbers of shared memory, free again after.
template <class T> __device__ __forceinline__ T block_sum(T x, T* scratch)
{
    x = warp_sum(x);
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
    __syncthreads();
    T sum = threadIdx.x % 32 < blockDim.x / 32 ? scratch[threadIdx.x % 32] : T(0);
    sum = warp_sum(sum);
    __syncthreads();
    return sum;
}

__device__ __forceinline__ long long first_element() { return (long long)blockIdx.x * blockDim.x + threadIdx.x; }

__device__ __forceinline__ long long threads() { return (long long)gridDim.x * blockDim.x; }
