// One small kernel for each function of _ptx.cuh and _numbers.cuh: what a GPU makes of known numbers is what the emulator must.
// A block is one warp unless it says otherwise; lanes are rows of the arrays.
#include "_numbers.cuh"

struct Fields {
    long long one;
    double half;
    long long three[3];
    double two[2];
};

extern "C" __global__ void fields(const Fields f, double* seen)
{
    const double all[] = {(double)f.one, f.half, (double)f.three[0], (double)f.three[1], (double)f.three[2], f.two[0], f.two[1]};
    for (int i = 0; i < 7; ++i) seen[i] = all[i];
}

extern "C" __global__ void widened_halves(const f16* h, const bf16* b, float* of_h, float* of_b)
{
    const long long i = first_element();
    of_h[i] = widened(h[i]);
    of_b[i] = widened(b[i]);
}

extern "C" __global__ void rounded(const float* x, f16* h, bf16* b, unsigned* tf32)
{
    const long long i = first_element();
    store(h[i], x[i]);
    store(b[i], x[i]);
    tf32[i] = tf32_bits(x[i]);
}

// Lane l copies 16, 8 and 4 bytes to places of its own; odd lanes copy zeros, from an address that they may not read.
extern "C" __global__ void copied(const float* x, float* y)
{
    DYNAMIC_SHARED(float, shared);
    const int l = threadIdx.x;
    const bool inside = l % 2 == 0;
    copy_async16(shared + 4 * l, inside ? x + 4 * l : x, inside);
    copy_group();
    copy_async8(shared + 128 + 2 * l, inside ? x + 2 * l : x, inside);
    copy_group();
    copy_async4(shared + 192 + l, inside ? x + l : x, inside);
    copy_group();
    copy_wait<2>();
    for (int i = 0; i < 4; ++i) y[4 * l + i] = shared[4 * l + i];
    copy_wait<0>();
    for (int i = 0; i < 2; ++i) y[128 + 2 * l + i] = shared[128 + 2 * l + i];
    y[192 + l] = shared[192 + l];
}

// NVRTC takes no generic lambda without an annotation of its space.
using Into = float (&)[4];
using Left = unsigned (&)[4];
using Right = unsigned (&)[2];

template <class Multiply>
__device__ void multiplied(Multiply multiply, const unsigned* a, const unsigned* b, float* c)
{
    const int l = threadIdx.x;
    unsigned of_a[4], of_b[2];
    float of_c[4];
    for (int i = 0; i < 4; ++i) of_a[i] = a[4 * l + i], of_c[i] = c[4 * l + i];
    for (int i = 0; i < 2; ++i) of_b[i] = b[2 * l + i];
    multiply(of_c, of_a, of_b);
    for (int i = 0; i < 4; ++i) c[4 * l + i] = of_c[i];
}

extern "C" __global__ void tf32(const unsigned* a, const unsigned* b, float* c)
{
    multiplied([](Into c, Left a, Right b) { multiply_tf32(c, a, b); }, a, b, c);
}

extern "C" __global__ void f16(const unsigned* a, const unsigned* b, float* c)
{
    multiplied([](Into c, Left a, Right b) { multiply_f16(c, a, b); }, a, b, c);
}

extern "C" __global__ void bf16(const unsigned* a, const unsigned* b, float* c)
{
    multiplied([](Into c, Left a, Right b) { multiply_bf16(c, a, b); }, a, b, c);
}

extern "C" __global__ void f64(const double* a, const double* b, double* c)
{
    const int l = threadIdx.x;
    double of_c[2] = {c[2 * l], c[2 * l + 1]};
    multiply_f64(of_c, a[l], b[l]);
    c[2 * l] = of_c[0], c[2 * l + 1] = of_c[1];
}

// Rows of 24 numbers, 48 bytes apart; lane l gives row l.
extern "C" __global__ void matrices(const unsigned short* x, unsigned* r, unsigned* transposed)
{
    DYNAMIC_SHARED(unsigned short, shared);
    const int l = threadIdx.x;
    for (int i = l; i < 32 * 24; i += 32) shared[i] = x[i];
    __syncwarp();
    unsigned of_r[4];
    load_matrices(of_r, shared + 24 * l);
    for (int i = 0; i < 4; ++i) r[4 * l + i] = of_r[i];
    load_matrices_transposed(of_r, shared + 24 * l);
    for (int i = 0; i < 4; ++i) transposed[4 * l + i] = of_r[i];
}

// Blocks of 96 threads.
extern "C" __global__ void sums(const float* x, float* of_warp, float* of_block, float* most)
{
    __shared__ float scratch[32];
    const long long i = first_element();
    of_warp[i] = warp_sum(x[i]);
    most[i] = warp_max(x[i]);
    of_block[i] = block_sum(x[i], scratch);
}
