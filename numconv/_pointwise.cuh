// The kernels of a formula that looks at one place of its arrays at a time. What stands before this text is the formula, as
//     __device__ Sum term(Sum a, Sum b, Sum c, Sum parameter)
// A thread owns packs of 16 bytes of every array where all begin at a multiple of 16 bytes, and single numbers otherwise.

struct Places {
    long long places;
    long long step_a, step_b, step_c, step_factor;  // 1, or 0 for one number that stands for all
    double scale, parameter;
};

#define WIDTH (16 / sizeof(Stored))

struct alignas(16) Pack {
    Stored of[WIDTH];
};

__device__ __forceinline__ bool in_packs(const void* p, long long step) { return !step || (unsigned long long)p % 16 == 0; }

__device__ __forceinline__ Pack pack(const Stored* p, long long step, long long i)
{
    Pack read = {};
    if (p && step) return *(const Pack*)(p + i);
    if (p)
        for (int j = 0; j < WIDTH; ++j) read.of[j] = *p;
    return read;
}

// y[i] = scale * factor[i] * term at i; a null pointer stands for an array that the formula has not, a null factor for 1.
extern "C" __global__ void scaled(const Stored* a, const Stored* b, const Stored* c, const Stored* factor, Stored* y, const Places p)
{
    const Sum scale = (Sum)p.scale, parameter = (Sum)p.parameter;
    const bool packs = in_packs(a, p.step_a) && in_packs(b, p.step_b) && in_packs(c, p.step_c) && in_packs(factor, p.step_factor) &&
                       in_packs(y, 1);
    const long long in_whole = packs ? p.places / (long long)WIDTH : 0;
    for (long long at = first_element(); at < in_whole; at += threads()) {
        const long long i = at * WIDTH;
        const Pack pa = pack(a, p.step_a, i), pb = pack(b, p.step_b, i), pc = pack(c, p.step_c, i), pf = pack(factor, p.step_factor, i);
        Pack py;
#pragma unroll
        for (int j = 0; j < WIDTH; ++j) {
            const Sum by = factor ? scale * widened(pf.of[j]) : scale;
            store(py.of[j], by * term(widened(pa.of[j]), widened(pb.of[j]), widened(pc.of[j]), parameter));
        }
        *(Pack*)(y + i) = py;
    }
    for (long long i = in_whole * WIDTH + first_element(); i < p.places; i += threads()) {
        const Sum by = factor ? scale * widened(factor[i * p.step_factor]) : scale;
        const Sum x = widened(a[i * p.step_a]), second = b ? widened(b[i * p.step_b]) : Sum(0);
        store(y[i], by * term(x, second, c ? widened(c[i * p.step_c]) : Sum(0), parameter));
    }
}

#define CHUNK 4096  // terms of a block, 16 of a thread: so that what is added to what does not depend on the GPU

// partial[j] = sum of the terms of chunk j, a chunk to a block.
extern "C" __global__ void summed(const Stored* a, const Stored* b, const Stored* c, double* partial, const Places p)
{
    __shared__ double scratch[32];
    const Sum parameter = (Sum)p.parameter;
    const long long begin = blockIdx.x * (long long)CHUNK, end = min(begin + CHUNK, p.places);
    Sum sum = 0;
    for (long long i = begin + threadIdx.x; i < end; i += blockDim.x) {
        const Sum x = widened(a[i * p.step_a]), second = b ? widened(b[i * p.step_b]) : Sum(0);
        sum += term(x, second, c ? widened(c[i * p.step_c]) : Sum(0), parameter);
    }
    const double total = block_sum((double)sum, scratch);
    if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

// The sum of the partial sums, in one block and a fixed order.
extern "C" __global__ void added(const double* partial, Stored* y, const Places p)
{
    __shared__ double scratch[32];
    double sum = 0;
    for (long long j = threadIdx.x; j < p.places; j += blockDim.x) sum += partial[j];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) store(*y, (Sum)sum);
}
