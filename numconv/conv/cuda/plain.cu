// The three contractions on a GPU, plain: what they compute, with nothing done for speed.
//
// One thread owns one element of the answer at a time and walks on by the size of the grid, so any grid is enough. No two threads
// write to one place and every sum has a fixed order: the answer is the same on every run, bit for bit. Every loop
// adds up on its own, so that rounding grows with the sum of the loops' lengths, not their product. Every index has 64 bits.
//
// One compilation per dtype serves every geometry; sums are in `Sum`, numbers lie in memory as `Stored`. Index letters are those of the docs:
// n batch, h group, o and i output and input channel, p output position, k tap, q input position. Here o and i count through all
// groups where they name a channel of an array, and within one group where they are summed over.

#include "_numbers.cuh"

// The fields of ConvGeometry, in its order.
struct Geometry {
    long long rank, batch, groups, c_in, c_out;
    long long x_size[3], w_size[3], y_size[3], stride[3], dilation[3], pad_lo[3];
};

struct Position {
    long long at0, at1, at2;
};

static __device__ long long volume(const long long size[3]) { return size[0] * size[1] * size[2]; }

static __device__ Position position(long long offset, const long long size[3])
{
    return {offset / size[2] / size[1], offset / size[2] % size[1], offset % size[2]};
}

static __device__ long long offset(long long at0, long long at1, long long at2, const long long size[3])
{
    return (at0 * size[1] + at1) * size[2] + at2;
}

// The input position q under tap k of output position p; -1 where that is outside x, and x so zero.
static __device__ long long input_under(long long p, long long k, const Geometry& g, int axis)
{
    const long long q = g.stride[axis] * p + g.dilation[axis] * k - g.pad_lo[axis];
    return 0 <= q && q < g.x_size[axis] ? q : -1;
}

// The output position p whose tap k lies on input position q; -1 where there is none.
static __device__ long long output_over(long long q, long long k, const Geometry& g, int axis)
{
    const long long reach = q + g.pad_lo[axis] - g.dilation[axis] * k;
    const long long p = reach / g.stride[axis];
    return 0 <= reach && p * g.stride[axis] == reach && p < g.y_size[axis] ? p : -1;
}

// Sum over channels c of a[c * a_step] * w[c * w_step].
static __device__ Sum over_channels(const Stored* a, long long a_step, const Stored* w, long long w_step, long long channels)
{
    Sum sum = 0;
    for (long long c = 0; c < channels; ++c) sum += widened(a[c * a_step]) * widened(w[c * w_step]);
    return sum;
}

// y[n,o,p] = sum over i,k of w[o,i,k] * x[n,i, stride*p + dilation*k - pad_lo], plus b[o] unless b is null.
// A thread owns one (n,o,p).
extern "C" __global__ void contract_y(const Stored* x, const Stored* w, const Stored* b, Stored* y, const Geometry g)
{
    const long long x_volume = volume(g.x_size), w_volume = volume(g.w_size), y_volume = volume(g.y_size);
    const long long channels = g.groups * g.c_out;
    for (long long t = first_element(); t < g.batch * channels * y_volume; t += threads()) {
        const Position p = position(t % y_volume, g.y_size);
        const long long o = t / y_volume % channels, n = t / y_volume / channels, h = o / g.c_out;
        const Stored* const x_h = x + (n * g.groups + h) * g.c_in * x_volume;
        const Stored* const w_o = w + o * g.c_in * w_volume;
        Sum sum = 0;
        for (long long k0 = 0; k0 < g.w_size[0]; ++k0) {
            const long long q0 = input_under(p.at0, k0, g, 0);
            if (q0 < 0) continue;
            Sum plane = 0;
            for (long long k1 = 0; k1 < g.w_size[1]; ++k1) {
                const long long q1 = input_under(p.at1, k1, g, 1);
                if (q1 < 0) continue;
                Sum row = 0;
                for (long long k2 = 0; k2 < g.w_size[2]; ++k2) {
                    const long long q2 = input_under(p.at2, k2, g, 2);
                    if (q2 < 0) continue;
                    const Stored* const x_q = x_h + offset(q0, q1, q2, g.x_size);
                    row += over_channels(x_q, x_volume, w_o + offset(k0, k1, k2, g.w_size), w_volume, g.c_in);
                }
                plane += row;
            }
            sum += plane;
        }
        store(y[t], b ? sum + widened(b[o]) : sum);
    }
}

// x[n,i,q] = sum over the o,p,k with stride*p + dilation*k - pad_lo = q of w[o,i,k] * y[n,o,p], plus b[i] unless b is null.
// A thread owns one (n,i,q) and gathers: for each tap there is at most one p.
extern "C" __global__ void contract_x(const Stored* y, const Stored* w, const Stored* b, Stored* x, const Geometry g)
{
    const long long x_volume = volume(g.x_size), w_volume = volume(g.w_size), y_volume = volume(g.y_size);
    const long long channels = g.groups * g.c_in;
    for (long long t = first_element(); t < g.batch * channels * x_volume; t += threads()) {
        const Position q = position(t % x_volume, g.x_size);
        const long long i = t / x_volume % channels, n = t / x_volume / channels, h = i / g.c_in;
        const Stored* const y_h = y + (n * g.groups + h) * g.c_out * y_volume;
        const Stored* const w_i = w + (h * g.c_out * g.c_in + i % g.c_in) * w_volume;
        Sum sum = 0;
        for (long long k0 = 0; k0 < g.w_size[0]; ++k0) {
            const long long p0 = output_over(q.at0, k0, g, 0);
            if (p0 < 0) continue;
            Sum plane = 0;
            for (long long k1 = 0; k1 < g.w_size[1]; ++k1) {
                const long long p1 = output_over(q.at1, k1, g, 1);
                if (p1 < 0) continue;
                Sum row = 0;
                for (long long k2 = 0; k2 < g.w_size[2]; ++k2) {
                    const long long p2 = output_over(q.at2, k2, g, 2);
                    if (p2 < 0) continue;
                    const Stored* const y_p = y_h + offset(p0, p1, p2, g.y_size);
                    row += over_channels(y_p, y_volume, w_i + offset(k0, k1, k2, g.w_size), g.c_in * w_volume, g.c_out);
                }
                plane += row;
            }
            sum += plane;
        }
        store(x[t], b ? sum + widened(b[i]) : sum);
    }
}

// w[o,i,k] = sum over n,p of y[n,o,p] * x[n,i, stride*p + dilation*k - pad_lo].
// A thread owns one (o,i,k); with few weights most of a GPU has nothing to do.
extern "C" __global__ void contract_w(const Stored* x, const Stored* y, Stored* w, const Geometry g)
{
    const long long x_volume = volume(g.x_size), w_volume = volume(g.w_size), y_volume = volume(g.y_size);
    const long long channels = g.groups * g.c_out;
    for (long long t = first_element(); t < channels * g.c_in * w_volume; t += threads()) {
        const Position k = position(t % w_volume, g.w_size);
        const long long i = t / w_volume % g.c_in, o = t / w_volume / g.c_in, h = o / g.c_out;
        Sum sum = 0;
        for (long long n = 0; n < g.batch; ++n) {
            const Stored* const x_i = x + ((n * g.groups + h) * g.c_in + i) * x_volume;
            const Stored* const y_o = y + (n * channels + o) * y_volume;
            Sum sample = 0;
            for (long long p0 = 0; p0 < g.y_size[0]; ++p0) {
                const long long q0 = input_under(p0, k.at0, g, 0);
                if (q0 < 0) continue;
                Sum plane = 0;
                for (long long p1 = 0; p1 < g.y_size[1]; ++p1) {
                    const long long q1 = input_under(p1, k.at1, g, 1);
                    if (q1 < 0) continue;
                    Sum row = 0;
                    for (long long p2 = 0; p2 < g.y_size[2]; ++p2) {
                        const long long q2 = input_under(p2, k.at2, g, 2);
                        if (q2 >= 0) row += widened(y_o[offset(p0, p1, p2, g.y_size)]) * widened(x_i[offset(q0, q1, q2, g.x_size)]);
                    }
                    plane += row;
                }
                sample += plane;
            }
            sum += sample;
        }
        store(w[t], sum);
    }
}
