// Random views of images, made where the images are: a block of threads makes one view, its box drawn by one of them.
//
// Every view is resampled twice, for its mean and for its values, rather than kept: 8 reads per number, nearly all from cache, 4
// bytes from memory and 4 to it. The bound is the launch for small images and the arithmetic of some 200 instructions per number
// for large ones (a prediction: no GPU has run this). A few large images keep few of a GPU's multiprocessors busy.
#include "_philox.cuh"

// The fields of views_cuda.Views, in its order.
struct Views {
    long long n, views, channels, height, width, low, high, epoch, streams[2], noise_streams[2];
    double scale[2], log_aspect[2], flip, translate, brightness, contrast, noise;
};

// Where a view is cut out, in shares of the sides, and how its values change.
struct View {
    double top, tall, left, wide, contrast, brightness;
    bool mirrored;
};

// The two samples around a position, and how far it is from the first to the second.
struct Between {
    long long first, second;
    Sum share;
};

__device__ View drawn(const Views& g, const Origin& origin, unsigned sample)
{
    double u[10];
    for (int b = 0; b < 5; ++b) {
        unsigned words[4];
        double two[2];
        draw(words, b, sample, origin);
        make_uniform(two, words);
        u[2 * b] = two[0], u[2 * b + 1] = two[1];
    }
    View v;
    const double area = g.scale[0] + (g.scale[1] - g.scale[0]) * u[0];
    if (g.height == 1) {
        v.tall = 1, v.wide = area;
    } else {
        const double root = exp((g.log_aspect[0] + (g.log_aspect[1] - g.log_aspect[0]) * u[1]) / 2);
        v.tall = fmin(sqrt(area) / root, 1.0), v.wide = fmin(sqrt(area) * root, 1.0);
    }
    v.top = (1 - v.tall) * u[2] + g.translate * (2 * u[4] - 1);
    v.left = (1 - v.wide) * u[3] + g.translate * (2 * u[5] - 1);
    v.mirrored = u[6] < g.flip;
    v.contrast = 1 + g.contrast * (2 * u[7] - 1);
    v.brightness = 1 + g.brightness * (2 * u[8] - 1);
    return v;
}

// Sample p covers the length from p to p + 1, so its centre is at p + 1/2: a box of the whole image is the image, exactly.
__device__ __forceinline__ Between between(double start, double share, long long p, long long size)
{
    const double at = fmin(fmax(start * size + share * (p + 0.5) - 0.5, 0.0), size - 1.0);
    const long long first = (long long)at;
    return {first, first + 1 < size ? first + 1 : first, (Sum)(at - first)};
}

// Four numbers of the view from the one at k on, row by row and channel by channel; zeros past the last.
__device__ __forceinline__ void resample(Sum (&y)[4], const Stored* x, long long k, long long size, const View& v, const Views& g)
{
    const long long line = k / g.width;
    long long q = k - line * g.width, p = line % g.height;
    const Stored* plane = x + (line - p) * g.width;
    Between row = between(v.top, v.tall, p, g.height);
    for (int j = 0; j < 4; ++j) {
        y[j] = 0;
        if (k + j >= size) continue;
        const Between column = between(v.left, v.wide, v.mirrored ? g.width - 1 - q : q, g.width);
        const Stored *upper = plane + row.first * g.width, *lower = plane + row.second * g.width;
        const Sum a0 = widened(upper[column.first]), b0 = widened(lower[column.first]);
        const Sum a = a0 + column.share * (widened(upper[column.second]) - a0);
        const Sum b = b0 + column.share * (widened(lower[column.second]) - b0);
        y[j] = a + row.share * (b - a);
        if (++q < g.width) continue;
        q = 0;
        if (++p == g.height) p = 0, plane += g.height * g.width;
        row = between(v.top, v.tall, p, g.height);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) make_views(const Stored* images, const long long* samples, Stored* out, const Views g)
{
    __shared__ View view;
    __shared__ double scratch[32];
    const long long size = g.channels * g.height * g.width;
    for (long long t = blockIdx.x; t < g.views * g.n; t += gridDim.x) {
        const long long which = t / g.n, i = t - which * g.n;
        const Stored* const x = images + i * size;
        const Origin origin = {g.low, g.high, g.epoch, which ? g.streams[1] : g.streams[0]};
        const Origin noise_origin = {g.low, g.high, g.epoch, which ? g.noise_streams[1] : g.noise_streams[0]};
        const unsigned sample = (unsigned)samples[i];
        if (threadIdx.x == 0) view = drawn(g, origin, sample);
        __syncthreads();
        const View v = view;
        double total = 0;
        for (long long b = threadIdx.x; 4 * b < size; b += blockDim.x) {
            Sum y[4];
            resample(y, x, 4 * b, size, v, g);
            for (int j = 0; j < 4; ++j) total += y[j];
        }
        total = block_sum(total, scratch);  // after which all threads have read `view`
        const Sum gain = v.contrast * v.brightness, shift = (Sum)(total / size) * (Sum)((1 - v.contrast) * v.brightness);
        for (long long b = threadIdx.x; 4 * b < size; b += blockDim.x) {
            Sum y[4];
            float z[4] = {};
            resample(y, x, 4 * b, size, v, g);
            if (g.noise > 0) {
                unsigned words[4];
                draw(words, (unsigned)b, sample, noise_origin);
                make_normal(z, words);
            }
            for (int j = 0; j < 4; ++j) {
                const Sum value = y[j] * gain + shift + (Sum)g.noise * z[j];
                if (4 * b + j < size) store(out[t * size + 4 * b + j], value < 0 ? 0 : value > 1 ? 1 : value);  // NaN stays
            }
        }
    }
}
