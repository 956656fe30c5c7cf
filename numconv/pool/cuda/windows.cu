// Pooling on a GPU: maxima and means of windows, and the ways back to the samples.
//
// One thread owns one element of the answer at a time and walks on by the size of the grid; neighbouring threads own neighbours
// along the last axis. The ways back gather: a sample looks at the windows that hold it, so no two threads write to one place and
// every sum has one order. `Index` has 32 bits where the geometry allows, and 64 elsewhere.
//
// Index letters are those of the docs: p output position, k tap, q input position; the tap k of window p lies at
// stride*p + dilation*k - pad_lo, counted from the first sample.

#include "_division.cuh"
#include "_numbers.cuh"

#if WIDE
typedef long long Index;
#else
typedef int Index;
#endif

enum Mode { zeros, reflect, symmetric, replicate, circular };

// The fields of Windows, in its order; `by_` are what `quotient` divides by them with.
struct Windows {
    long long planes;
    long long x_size[3], y_size[3], window[3], stride[3], dilation[3], pad_lo[3], mode[3];
    long long by_x[3], by_y[3], by_stride[3], by_dilation[3];
    long long include_pad, index_bytes;  // of a winner: 1, 2, 4 for the number of a tap, 8 for an index in the plane of x
};

struct Place {
    Index plane, at[3];
};

struct Taps {
    Index first, count;
};

static __device__ __forceinline__ Index volume(const long long size[3]) { return (Index)size[0] * (Index)size[1] * (Index)size[2]; }

static __device__ __forceinline__ Index offset(Index at0, Index at1, Index at2, const long long size[3])
{
    return (at0 * (Index)size[1] + at1) * (Index)size[2] + at2;
}

static __device__ __forceinline__ Place place(Index element, const long long size[3], const long long by[3])
{
    Place found;
    for (int axis = 2; axis >= 0; --axis) {
        const Index above = quotient(element, (Index)size[axis], by[axis]);
        found.at[axis] = element - above * (Index)size[axis];
        element = above;
    }
    found.plane = element;
    return found;
}

// The sample that position r repeats, -1 for none.
static __device__ __forceinline__ Index sample(Index r, int axis, const Windows& g)
{
    const Index size = g.x_size[axis];
    if (0 <= r && r < size) return r;
    const long long mode = g.mode[axis];
    if (mode == zeros) return -1;
    if (mode == replicate) return r < 0 ? 0 : size - 1;
    const Index last = mode == symmetric ? 2 * size - 1 : 2 * size - 2;
    const Index period = mode == circular ? size : mode == symmetric ? 2 * size : size == 1 ? 1 : last;
    const Index q = (r % period + period) % period;
    return mode == circular || q < size ? q : last - q;
}

static __device__ __forceinline__ Index first_tap(Index p, int axis, const Windows& g)
{
    return (Index)g.stride[axis] * p - (Index)g.pad_lo[axis];
}

// The taps of window p that have a sample; there is one at least.
static __device__ __forceinline__ Taps taps(Index p, int axis, const Windows& g)
{
    const Index all = g.window[axis], d = g.dilation[axis], begin = first_tap(p, axis, g);
    if (g.mode[axis] != zeros) return {0, all};
    const Index first = begin >= 0 ? 0 : quotient(d - 1 - begin, d, g.by_dilation[axis]);
    const Index last = quotient((Index)g.x_size[axis] - 1 - begin, d, g.by_dilation[axis]);
    return {first, (last < all ? last + 1 : all) - first};
}

// Calls f(offset in the plane, number of the tap) for every tap that has a sample, in row-major order.
template <class F> static __device__ __forceinline__ void each_tap(const Place& at, const Windows& g, F f)
{
    const Taps t0 = taps(at.at[0], 0, g), t1 = taps(at.at[1], 1, g), t2 = taps(at.at[2], 2, g);
    const Index begin0 = first_tap(at.at[0], 0, g), begin1 = first_tap(at.at[1], 1, g), begin2 = first_tap(at.at[2], 2, g);
    for (Index k0 = t0.first; k0 < t0.first + t0.count; ++k0) {
        const Index q0 = sample(begin0 + (Index)g.dilation[0] * k0, 0, g);
        for (Index k1 = t1.first; k1 < t1.first + t1.count; ++k1) {
            const Index q1 = sample(begin1 + (Index)g.dilation[1] * k1, 1, g);
            for (Index k2 = t2.first; k2 < t2.first + t2.count; ++k2) {
                const Index q2 = sample(begin2 + (Index)g.dilation[2] * k2, 2, g);
                f(offset(q0, q1, q2, g.x_size), offset(k0, k1, k2, g.window));
            }
        }
    }
}

// Whether a tap of window p before tap k has sample q too.
static __device__ __forceinline__ bool seen(Index q, Index p, Index k, int axis, const Windows& g)
{
    bool found = false;
    for (Index before = 0; before < k && !found; ++before)
        found = sample(first_tap(p, axis, g) + (Index)g.dilation[axis] * before, axis, g) == q;
    return found;
}

// The positions that repeat sample q: from `r` on in steps, before `end`. A mirror image of q is the second of two such runs.
struct Run {
    Index r, end, step;
};

static __device__ __forceinline__ Run positions(Index q, bool mirrored, int axis, const Windows& g)
{
    const Index size = g.x_size[axis], lo = g.pad_lo[axis];
    const long long mode = g.mode[axis];
    if (mode == zeros) return {q, mirrored ? q : q + 1, 1};
    const Index end = first_tap((Index)g.y_size[axis] - 1, axis, g) + (Index)g.dilation[axis] * ((Index)g.window[axis] - 1) + 1;
    if (mode == replicate) return {q ? q : -lo, mirrored ? -lo : q < size - 1 ? q + 1 : end, 1};
    const Index last = mode == symmetric ? 2 * size - 1 : 2 * size - 2;
    const Index period = mode == circular ? size : mode == symmetric ? 2 * size : size == 1 ? 1 : last;
    const bool twice = mode == symmetric || (mode == reflect && q && q != size - 1);
    const Index r = mirrored ? last - q : q;
    return {r - (r + lo) / period * period, mirrored && !twice ? -lo : end, period};
}

// Calls f(p, k) for every window p and its tap k that has sample q; where winners are indices in the plane, only for the first.
template <class F> static __device__ __forceinline__ void each_window(Index q, int axis, const Windows& g, F f)
{
    const Index stride = g.stride[axis], d = g.dilation[axis], span = d * ((Index)g.window[axis] - 1);
    const Index last = (Index)g.y_size[axis] - 1;
    const bool once = g.index_bytes == 8 && g.mode[axis] != zeros;
#pragma unroll 1
    for (int mirrored = 0; mirrored < (g.mode[axis] == zeros ? 1 : 2); ++mirrored) {
        const Run run = positions(q, mirrored, axis, g);
#pragma unroll 1
        for (Index r = run.r; r < run.end; r += run.step) {
            const Index reach = r + (Index)g.pad_lo[axis];
            const Index under = quotient(reach, stride, g.by_stride[axis]);
            Index p = under < last ? under : last;
#pragma unroll 1
            for (Index far = reach - p * stride; p >= 0 && far <= span; --p, far += stride) {
                const Index k = quotient(far, d, g.by_dilation[axis]);
                if (k * d == far && !(once && seen(q, p, k, axis, g))) f(p, k);
            }
        }
    }
}

static __device__ __forceinline__ void set_winner(unsigned char* winners, const Windows& g, Index at, Index k, Index q)
{
    if (g.index_bytes == 1) winners[at] = (unsigned char)k;
    if (g.index_bytes == 2) ((short*)winners)[at] = (short)k;
    if (g.index_bytes == 4) ((int*)winners)[at] = (int)k;
    if (g.index_bytes == 8) ((long long*)winners)[at] = q;
}

static __device__ __forceinline__ bool won(const unsigned char* winners, const Windows& g, Index at, Index k, Index q)
{
    if (g.index_bytes == 1) return winners[at] == k;
    if (g.index_bytes == 2) return ((const short*)winners)[at] == k;
    if (g.index_bytes == 4) return ((const int*)winners)[at] == k;
    return ((const long long*)winners)[at] == q;
}

// y[p] = maximum over taps of x[q], and which sample was the first to reach it, unless `winners` is null. NaN is above all numbers.
extern "C" __global__ void maxima(const Stored* x, Stored* y, unsigned char* winners, const Windows g)
{
    const Index x_volume = volume(g.x_size);
    for (long long e = first_element(); e < g.planes * volume(g.y_size); e += threads()) {
        const Place at = place((Index)e, g.y_size, g.by_y);
        const Stored* const plane = x + at.plane * x_volume;
        Sum most = 0;
        Index winner = -1, tap = -1;
        each_tap(at, g, [&](Index q, Index k) {
            const Sum value = widened(plane[q]);
            if (tap < 0 || value > most || (value != value && most == most)) most = value, winner = q, tap = k;
        });
        store(y[e], most);
        if (winners) set_winner(winners, g, (Index)e, tap, winner);
    }
}

// x[q] = sum over the windows p that q won of y[p].
extern "C" __global__ void scatter(const Stored* y, const unsigned char* winners, Stored* x, const Windows g)
{
    const Index y_volume = volume(g.y_size);
    for (long long e = first_element(); e < g.planes * volume(g.x_size); e += threads()) {
        const Place at = place((Index)e, g.x_size, g.by_x);
        const Index q = offset(at.at[0], at.at[1], at.at[2], g.x_size), plane = at.plane * y_volume;
        Sum sum = 0;
        each_window(at.at[0], 0, g, [&](Index p0, Index k0) {
            each_window(at.at[1], 1, g, [&](Index p1, Index k1) {
                each_window(at.at[2], 2, g, [&](Index p2, Index k2) {
                    const Index p = plane + offset(p0, p1, p2, g.y_size);
                    if (won(winners, g, p, offset(k0, k1, k2, g.window), q)) sum += widened(y[p]);
                });
            });
        });
        store(x[e], sum);
    }
}

// y[p] = x[indices[p]].
extern "C" __global__ void gather(const Stored* x, const long long* indices, Stored* y, const Windows g)
{
    const Index x_volume = volume(g.x_size), y_volume = volume(g.y_size);
    for (long long e = first_element(); e < g.planes * y_volume; e += threads())
        y[e] = x[(Index)e / y_volume * x_volume + (Index)indices[e]];
}

static __device__ __forceinline__ Sum count(Index p, int axis, const Windows& g)
{
    return g.include_pad ? (Sum)g.window[axis] : (Sum)taps(p, axis, g).count;
}

// y[p] = sum over taps of x[q] / the number of taps, or of those that have a sample.
extern "C" __global__ void mean_y(const Stored* x, Stored* y, const Windows g)
{
    const Index x_volume = volume(g.x_size);
    for (long long e = first_element(); e < g.planes * volume(g.y_size); e += threads()) {
        const Place at = place((Index)e, g.y_size, g.by_y);
        const Stored* const plane = x + at.plane * x_volume;
        Sum sum = 0;
        each_tap(at, g, [&](Index q, Index) { sum += widened(plane[q]); });
        store(y[e], sum / (count(at.at[0], 0, g) * count(at.at[1], 1, g) * count(at.at[2], 2, g)));
    }
}

// x[q] = sum over the windows p and taps that have q of y[p] / the number of taps of p.
extern "C" __global__ void mean_x(const Stored* y, Stored* x, const Windows g)
{
    const Index y_volume = volume(g.y_size);
    for (long long e = first_element(); e < g.planes * volume(g.x_size); e += threads()) {
        const Place at = place((Index)e, g.x_size, g.by_x);
        const Stored* const plane = y + at.plane * y_volume;
        Sum sum = 0;
        each_window(at.at[0], 0, g, [&](Index p0, Index) {
            const Sum count0 = count(p0, 0, g);
            each_window(at.at[1], 1, g, [&](Index p1, Index) {
                const Sum count1 = count0 * count(p1, 1, g);
                each_window(at.at[2], 2, g, [&](Index p2, Index) {
                    const Sum value = widened(plane[offset(p0, p1, p2, g.y_size)]);
                    sum += g.include_pad ? value : value / (count1 * count(p2, 2, g));
                });
            });
        });
        const Sum all = g.include_pad ? (Sum)g.window[0] * (Sum)g.window[1] * (Sum)g.window[2] : Sum(1);
        store(x[e], sum / all);
    }
}
