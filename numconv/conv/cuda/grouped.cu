// Convolution of many narrow groups, depthwise among them, straight from memory: no group fills a tile of a product of matrices.
//
// Lanes run along what lies together in memory, positions or channels, so that reads coalesce in both orders; what threads of a block
// read twice they find in the L1 cache. Positions along an axis have 32 bits, offsets 64. Nothing is added out of order.
#include "_numbers.cuh"

// An output position r sees under tap k the input position (scale r + step k + shift) / divisor, where that is one; else `seen` is negative.
struct Slide {
    long long batch, groups, ins, outs, last, rectify;  // channels of a group
    long long in_size[3], taps[3], out_size[3], scale[3], step[3], shift[3], divisor[3];
    long long in_steps[3], out_steps[3], w_steps[3];  // elements from one sample, channel, position to the next; of w: group, out, in
};

struct Share {
    long long pixels;
};

static __device__ __forceinline__ int seen(int r, int k, const Slide& g, int axis)
{
    const int a = r * (int)g.scale[axis] + k * (int)g.step[axis] + (int)g.shift[axis], d = (int)g.divisor[axis];
    const int q = d == 1 ? a : a / d;
    return q * d == a && q < (int)g.in_size[axis] ? q : -1;
}

// A thread owns STRIP rows (the second axis) of one column of OUTS output channels: each number read is used for all of them.
extern "C" __global__ void __launch_bounds__(256, 2) slide(const Stored* in, const Stored* w, const Stored* b, Stored* out, const Slide g)
{
    const long long strips = (g.out_size[1] + STRIP - 1) / STRIP, chunks = (g.outs + OUTS - 1) / OUTS;
    const long long places = g.out_size[0] * strips * g.out_size[2], channels = g.groups * chunks;
    const int taps0 = (int)g.taps[0], taps1 = (int)g.taps[1], taps2 = (int)g.taps[2];
    for (long long t = first_element(); t < g.batch * places * channels; t += threads()) {
        const long long n = t / (places * channels), e = t % (places * channels);
        const long long place = g.last ? e / channels : e % places, channel = g.last ? e % channels : e / places;
        const long long h = channel / chunks, o = channel % chunks * OUTS;
        const int r2 = (int)(place % g.out_size[2]), r1 = (int)(place / g.out_size[2] % strips) * STRIP;
        const int r0 = (int)(place / g.out_size[2] / strips);
        const Stored* const in_h = in + n * g.in_steps[0] + h * g.ins * g.in_steps[1];
        const Stored* const w_o = w + h * g.w_steps[0] + o * g.w_steps[1];
        Sum sums[STRIP][OUTS] = {};
        for (int k0 = 0; k0 < taps0; ++k0) {
            const int q0 = seen(r0, k0, g, 0);
            if (q0 < 0) continue;
            for (int k1 = 0; k1 < taps1; ++k1) {
                long long row[STRIP];
#pragma unroll
                for (int s = 0; s < STRIP; ++s) {
                    const int q1 = seen(r1 + s, k1, g, 1);
                    row[s] = q1 < 0 ? -1 : (q0 * g.in_size[1] + q1) * g.in_size[2];
                }
#pragma unroll 1
                for (int k2 = 0; k2 < taps2; ++k2) {
                    const int q2 = seen(r2, k2, g, 2);
                    if (q2 < 0) continue;
                    const Stored* const w_k = w_o + ((long long)k0 * taps1 + k1) * taps2 + k2;
#pragma unroll 1
                    for (int i = 0; i < (int)g.ins; ++i) {
                        Sum weight[OUTS];
#pragma unroll
                        for (int j = 0; j < OUTS; ++j)
                            weight[j] = o + j < g.outs ? widened(w_k[j * g.w_steps[1] + i * g.w_steps[2]]) : Sum(0);
#pragma unroll
                        for (int s = 0; s < STRIP; ++s) {
                            if (row[s] < 0) continue;
                            const Sum value = widened(in_h[i * g.in_steps[1] + (row[s] + q2) * g.in_steps[2]]);
#pragma unroll
                            for (int j = 0; j < OUTS; ++j) sums[s][j] += weight[j] * value;
                        }
                    }
                }
            }
        }
#pragma unroll
        for (int s = 0; s < STRIP; ++s)
#pragma unroll
            for (int j = 0; j < OUTS; ++j) {
                if (r1 + s >= g.out_size[1] || o + j >= g.outs) continue;
                const long long c = h * g.outs + o + j, at = (r0 * g.out_size[1] + r1 + s) * g.out_size[2] + r2;
                const Sum sum = b ? sums[s][j] + widened(b[c]) : sums[s][j];
                store(out[n * g.out_steps[0] + c * g.out_steps[1] + at * g.out_steps[2]], g.rectify && sum < 0 ? Sum(0) : sum);
            }
    }
}
constexpr int WIDE = 4;

// parts[share][o,i,k] = the sum over a share of the pixels (n,p) of y[n,o,p] * x[n,i,q], x being `in`, y having `out_size`.
// A block owns up to WIDE taps along the last axis and one share; both arrays lie as (n, channel, position).
extern "C" __global__ void __launch_bounds__(256) weigh(const Stored* x, const Stored* y, Sum* parts, const Slide g, const Share of)
{
    __shared__ Sum all[WIDE][256];
    const int taps1 = (int)g.taps[1], taps2 = (int)g.taps[2], pieces = (taps2 + WIDE - 1) / WIDE;
    long long at = blockIdx.x;
    const int k2 = (int)(at % pieces) * WIDE, k1 = (int)(at / pieces % taps1), k0 = (int)(at / pieces / taps1 % g.taps[0]);
    at = at / pieces / taps1 / g.taps[0];
    const long long i = at % g.ins, o = at / g.ins, h = o / g.outs;
    const unsigned size1 = (unsigned)g.out_size[1], size2 = (unsigned)g.out_size[2], volume = (unsigned)g.out_size[0] * size1 * size2;
    const long long pixels = g.batch * volume, end = (blockIdx.y + 1) * of.pixels;
    Sum sums[WIDE] = {};
    for (long long pixel = blockIdx.y * of.pixels + threadIdx.x; pixel < (end < pixels ? end : pixels); pixel += 256) {
        const unsigned n = (unsigned)pixel / volume, p = (unsigned)pixel % volume;
        const int q0 = seen((int)(p / size2 / size1), k0, g, 0), q1 = seen((int)(p / size2 % size1), k1, g, 1);
        if (q0 < 0 || q1 < 0) continue;
        const Sum value = widened(y[n * g.out_steps[0] + o * g.out_steps[1] + p]);
        const Stored* const row = x + n * g.in_steps[0] + (h * g.ins + i) * g.in_steps[1] + (q0 * g.in_size[1] + q1) * g.in_size[2];
#pragma unroll
        for (int j = 0; j < WIDE; ++j) {
            const int q2 = seen((int)(p % size2), k2 + j, g, 2);
            if (k2 + j < taps2 && q2 >= 0) sums[j] += value * widened(row[q2]);
        }
    }
#pragma unroll
    for (int j = 0; j < WIDE; ++j) all[j][threadIdx.x] = sums[j];
    for (int half = 128; half; half /= 2) {
        __syncthreads();
        if ((int)threadIdx.x < half)
#pragma unroll
            for (int j = 0; j < WIDE; ++j) all[j][threadIdx.x] += all[j][threadIdx.x + half];
    }
    if (threadIdx.x) return;
    const long long elements = g.groups * g.outs * g.ins * g.taps[0] * taps1 * taps2;
    const long long first = (((o * g.ins + i) * g.taps[0] + k0) * taps1 + k1) * taps2 + k2;
    for (int j = 0; j < WIDE && k2 + j < taps2; ++j) parts[blockIdx.y * elements + first + j] = all[j][0];
}
