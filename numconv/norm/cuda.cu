// Normalisation. Numbers are seen with four axes, (rows, groups, parts, size); a set is what shares a mean and a variance, a channel
// what shares a scale and a shift. Sums are over sets or over channels (TARGET): each is `outer` runs of neighbouring numbers. A team
// of TEAM threads takes a chunk of one; chunks are added in order by a kernel of its own. With single numbers for runs, a thread is
// a team, and neighbours own neighbouring targets.
#include "_numbers.cuh"

// The fields of `cuda.Norm`, in its order.
struct Norm {
    long long rows, groups, parts, size;
    long long over_batch, fixed;    // whether sets run over rows; whether moments do not depend on x
    long long small;                // whether all numbers can be counted in 32 bits, where divisions are quicker
    long long targets, outer, run;  // of the sums at hand
    long long chunks, chunk;        // of a target, and numbers in each
    double eps;
};

#define SETS 0
#define CHANNELS 1

// Where a target's numbers begin, and how far its runs are apart.
template <int Target> __device__ __forceinline__ long long begin_of(long long t, const Norm& n)
{
    return Target == SETS && !n.over_batch ? t * n.parts * n.size : t * n.size;
}
__device__ __forceinline__ long long apart(const Norm& n) { return n.groups * n.parts * n.size; }

__device__ __forceinline__ long long quotient(long long a, long long b, const Norm& n)
{
    return n.small ? (long long)((unsigned)a / (unsigned)b) : a / b;
}
__device__ __forceinline__ long long channel_of(long long at, const Norm& n)
{
    const long long line = quotient(at, n.size, n), channels = n.groups * n.parts;
    return line - quotient(line, channels, n) * channels;
}
__device__ __forceinline__ long long set_of(long long at, const Norm& n)
{
    return n.over_batch ? channel_of(at, n) : quotient(at, n.parts * n.size, n);
}

// x - mean, where the mean is a double: right to the last digits of a float too.
__device__ __forceinline__ Sum deviation(Sum x, double mean)
{
    const Sum high = (Sum)mean;
    return (x - high) - (Sum)(mean - (double)high);
}

struct Moments {
    double count, mean, squares;  // squares of deviations from the mean
};

// Of two parts together (Chan, Golub and LeVeque 1983).
__device__ __forceinline__ Moments joined(const Moments& a, const Moments& b)
{
    const double count = a.count + b.count;
    if (b.count == 0) return a;
    if (a.count == 0) return b;
    const double d = b.mean - a.mean, share = b.count / count;
    return {count, a.mean + d * share, a.squares + b.squares + d * d * a.count * share};
}

__device__ __forceinline__ long long team() { return first_element() / TEAM; }
__device__ __forceinline__ int member() { return threadIdx.x % TEAM; }

// Call `visit` with the place of each of this thread's numbers in a chunk of a target.
template <int Target, class Visit> __device__ __forceinline__ void walk(long long target, long long chunk, const Norm& n, Visit visit)
{
    const long long begin = begin_of<Target>(target, n), first = chunk * n.chunk, end = min(first + n.chunk, n.outer * n.run);
    for (long long k = first + member(); k < end; k += TEAM) {
        const long long o = n.run == 1 ? k : n.outer == 1 ? 0 : quotient(k, n.run, n);
        visit(begin + o * apart(n) + (k - o * n.run));
    }
}

// This team's target and chunk: targets are neighbours, so that single threads read neighbouring numbers.
__device__ __forceinline__ long long target_of(long long t, const Norm& n) { return TEAM == 1 ? t % n.targets : t / n.chunks; }
__device__ __forceinline__ long long chunk_of(long long t, const Norm& n) { return TEAM == 1 ? t / n.targets : t % n.chunks; }

// partial[target][chunk] = count, mean and squares of a chunk: within a thread by Welford's updates of what numbers differ from its
// first, so that little is rounded off however far they are from zero.
extern "C" __global__ void moments(const Stored* x, double* partial, const Norm n)
{
#if TEAM > 32
    __shared__ Moments warps[TEAM / 32];
#endif
    const long long t = team();
    const bool here = t < n.targets * n.chunks;
    Sum count = 0, mean = 0, squares = 0, first = 0;
    if (here)
        walk<SETS>(target_of(t, n), chunk_of(t, n), n, [&](long long at) {
            if (count == 0) first = widened(x[at]);
            const Sum value = widened(x[at]) - first, d = value - mean;
            count += 1;
            mean += d / count;
            squares += d * (value - mean);
        });
    Moments m = {(double)count, (double)first + (double)mean, (double)squares};
#if TEAM > 1
    for (int by = 16; by; by /= 2) {
        const Moments other = {__shfl_down_sync(0xffffffffu, m.count, by), __shfl_down_sync(0xffffffffu, m.mean, by),
                               __shfl_down_sync(0xffffffffu, m.squares, by)};
        m = joined(m, other);
    }
#endif
#if TEAM > 32
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = m;
    __syncthreads();
    if (threadIdx.x == 0)
        for (int w = 1; w < TEAM / 32; ++w) m = joined(m, warps[w]);
#endif
    if (here && member() == 0) ((Moments*)partial)[target_of(t, n) * n.chunks + chunk_of(t, n)] = m;
}

// partial[target][chunk] = sums of h and of h normal, with h = dy, or dy scale over sets.
template <int Target>
__device__ void products_of(const Stored* x, const Stored* dy, const Stored* scale, const double2* kept, double2* partial, const Norm& n)
{
    const long long t = team();
    const bool here = t < n.targets * n.chunks;
    Sum sum = 0, with = 0;
    if (here)
        walk<Target>(target_of(t, n), chunk_of(t, n), n, [&](long long at) {
            const double2 m = kept[set_of(at, n)];
            Sum h = widened(dy[at]);
            if (Target == SETS && scale) h *= widened(scale[channel_of(at, n)]);
            sum += h;
            with += h * (deviation(widened(x[at]), m.x) * (Sum)m.y);
        });
    double both[2] = {(double)sum, (double)with};
#if TEAM > 32
    __shared__ double scratch[32];
    for (double& each : both) each = block_sum(each, scratch);
#elif TEAM > 1
    for (double& each : both) each = warp_sum(each);
#endif
    if (here && member() == 0) partial[target_of(t, n) * n.chunks + chunk_of(t, n)] = make_double2(both[0], both[1]);
}

extern "C" __global__ void products_of_sets(const Stored* x, const Stored* dy, const Stored* scale, const double* kept,
                                            double* partial, const Norm n)
{
    products_of<SETS>(x, dy, scale, (const double2*)kept, (double2*)partial, n);
}

extern "C" __global__ void products_of_channels(const Stored* x, const Stored* dy, const double* kept, double* partial, const Norm n)
{
    products_of<CHANNELS>(x, dy, nullptr, (const double2*)kept, (double2*)partial, n);
}

// kept[set] = mean and 1 / sqrt(var + eps): of the chunks in order, or of moments that are given. A thread owns a set.
extern "C" __global__ void statistics(const double* partial, const Stored* given_mean, const Stored* given_var, double* kept,
                                      Stored* mean, Stored* var, const Norm n)
{
    const Moments* const of_chunks = (const Moments*)partial;
    for (long long t = first_element(); t < n.targets; t += threads()) {
        double average, variance;
        if (given_mean) {
            average = widened(given_mean[t]), variance = widened(given_var[t]);
        } else {
            Moments m = of_chunks[t * n.chunks];
            for (long long chunk = 1; chunk < n.chunks; ++chunk) m = joined(m, of_chunks[t * n.chunks + chunk]);
            average = m.mean, variance = m.squares / m.count;
        }
        ((double2*)kept)[t] = make_double2(average, 1 / sqrt(variance + n.eps));
        if (mean) store(mean[t], (Sum)average), store(var[t], (Sum)variance);
    }
}

// y = d r scale + shift. A thread owns one number.
extern "C" __global__ void normal(const Stored* x, const Stored* scale, const Stored* shift, const double* kept, Stored* y, const Norm n)
{
    const long long size = n.rows * apart(n);
    for (long long at = first_element(); at < size; at += threads()) {
        const double2 m = ((const double2*)kept)[set_of(at, n)];
        const long long c = channel_of(at, n);
        Sum value = deviation(widened(x[at]), m.x) * (Sum)m.y;
        if (scale) value *= widened(scale[c]);
        store(y[at], shift ? value + widened(shift[c]) : value);
    }
}

// totals[target] = the chunks' sums in order; of channels, dshift and dscale too.
extern "C" __global__ void added(const double* partial, double* totals, Stored* dshift, Stored* dscale, const Norm n)
{
    for (long long t = first_element(); t < n.targets; t += threads()) {
        double2 sum = ((const double2*)partial)[t * n.chunks];
        for (long long chunk = 1; chunk < n.chunks; ++chunk) {
            const double2 more = ((const double2*)partial)[t * n.chunks + chunk];
            sum.x += more.x, sum.y += more.y;
        }
        ((double2*)totals)[t] = sum;
        if (dshift) store(dshift[t], (Sum)sum.x), store(dscale[t], (Sum)sum.y);
    }
}

// dx = r (h - mean(h) - normal mean(h normal)), or r h where moments are fixed. `totals` are sums over sets; over a batch those of the
// channels, which are sets, without the scale.
extern "C" __global__ void input_gradient(const Stored* x, const Stored* dy, const Stored* scale, const double* kept,
                                          const double* totals, Stored* dx, const Norm n)
{
    const long long size = n.rows * apart(n);
    const double count = n.over_batch ? (double)(n.rows * n.size) : (double)(n.parts * n.size);
    for (long long at = first_element(); at < size; at += threads()) {
        const long long set = set_of(at, n);
        const double2 m = ((const double2*)kept)[set];
        const Sum by = scale ? widened(scale[channel_of(at, n)]) : Sum(1);
        Sum h = widened(dy[at]) * by;
        if (!n.fixed) {
            const double2 sums = ((const double2*)totals)[set];
            const Sum share = n.over_batch ? by : Sum(1), d = deviation(widened(x[at]), m.x) * (Sum)m.y;
            h = (h - (Sum)(sums.x / count) * share) - d * ((Sum)(sums.y / count) * share);
        }
        store(dx[at], (Sum)m.y * h);
    }
}
