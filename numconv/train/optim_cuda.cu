// Steps of the optimisers: each number is read once and written once, in one launch per array of parameters.
//
// Adam moves 28 bytes per parameter of float32, SGD 12 and with momentum 20, for some ten operations, so the bound is memory (a
// prediction: no GPU has run this). A thread owns one number at a time and walks on by the size of the grid.
//
// What differs from step to step (the learning rate, the bias corrections) comes by value, or from the GPU's memory where a pointer
// to it is given: launches that a CUDA graph has recorded then read it anew.

#include "_numbers.cuh"

// The fields of optim_cuda.Descent, in its order.
struct Descent {
    long long n, nesterov;
    double momentum, rate;
};

// Without momentum there is no velocity, before or after.
extern "C" __global__ void sgd_moved(const Stored* p, const Stored* g, const Stored* velocity, Stored* p_after,
                                     Stored* velocity_after, const double* rate, const Descent c)
{
    const Sum eta = rate ? *rate : c.rate, momentum = c.momentum;
    for (long long i = first_element(); i < c.n; i += threads()) {
        const Sum slope = widened(g[i]);
        Sum along = slope;
        if (velocity) {
            const Sum v = momentum * widened(velocity[i]) + slope;
            store(velocity_after[i], v);
            along = c.nesterov ? slope + momentum * v : v;
        }
        store(p_after[i], widened(p[i]) - eta * along);
    }
}

// The fields of optim_cuda.Moments, in its order; the first three of the doubles are what adam_corrections writes.
struct Moments {
    long long n;
    double scale, floor, rate, b1, b2, decay;
};

__device__ __forceinline__ float root(float x) { return sqrtf(x); }
__device__ __forceinline__ double root(double x) { return sqrt(x); }

extern "C" __global__ void adam_moved(const Stored* p, const Stored* g, const Stored* mean, const Stored* square, Stored* p_after,
                                      Stored* mean_after, Stored* square_after, const double* corrections, const Moments c)
{
    // The complements are taken in double: 1 - 0.999 in float is wrong in its fifth digit.
    const Sum b1 = c.b1, b2 = c.b2, new1 = 1 - c.b1, new2 = 1 - c.b2;
    const Sum scale = corrections ? corrections[0] : c.scale, floor = corrections ? corrections[1] : c.floor;
    const Sum shrink = c.decay * (corrections ? corrections[2] : c.rate);
    for (long long i = first_element(); i < c.n; i += threads()) {
        const Sum at = widened(p[i]), slope = widened(g[i]);
        const Sum m = b1 * widened(mean[i]) + new1 * slope, v = b2 * widened(square[i]) + new2 * (slope * slope);
        store(mean_after[i], m);
        store(square_after[i], v);
        store(p_after[i], at - scale * (m / (root(v) + floor)) - shrink * at);
    }
}

// The fields of optim_cuda.Moment, in its order: what is known by value, where no pointer is given.
struct Moment {
    long long step;
    double rate, b1, b2, eps;
};

// What optim.corrections computes on the host, of a step's number or a learning rate that lie on the GPU: one thread.
extern "C" __global__ void adam_corrections(const long long* step, const double* rate, double* corrections, const Moment c)
{
    const double t = (double)((step ? *step : c.step) + 1), eta = rate ? *rate : c.rate;
    const double square_bias = sqrt(1 - pow(c.b2, t));
    corrections[0] = eta * square_bias / (1 - pow(c.b1, t));
    corrections[1] = c.eps * square_bias;
    corrections[2] = eta;
}

// The fields of optim_cuda.Sums, in its order.
struct Sums {
    long long n;
    double limit;
};

// The norm whose square is the sum of partial sums, added in one block and a fixed order; and the factor that brings it to a limit,
// where one is asked for. NaN makes both NaN.
extern "C" __global__ void norm_of(const double* partial, Stored* norm, Stored* factor, const Sums c)
{
    __shared__ double scratch[32];
    double sum = 0;
    for (long long j = threadIdx.x; j < c.n; j += blockDim.x) sum += partial[j];
    const double length = sqrt(block_sum(sum, scratch));
    if (threadIdx.x) return;
    store(*norm, (Sum)length);
    if (factor) store(*factor, (Sum)(length <= c.limit ? 1 : c.limit / length));
}
