// The shares of a weight gradient, which `gradient.cu` summed, added in order.
#include "_numbers.cuh"

// The fields of `gradient.Reduction`, in its order.
struct Reduction {
    long long batch, groups, c_in, c_out;
    long long x_size[3], w_size[3], y_size[3], stride[3], dilation[3], pad_lo[3];
    long long splits, tiles;  // shares of the pixels, and tiles of BK of them in each
    long long step[4];        // BK pixels further, as samples and positions along each axis
};

// w[o][i][k] = sum over splits of partial[split][o][k][i], o counting through all groups. A thread owns one element.
extern "C" __global__ void added(const Sum* partial, Stored* w, const Reduction r)
{
    const long long taps = r.w_size[0] * r.w_size[1] * r.w_size[2], size = r.groups * r.c_out * r.c_in * taps;
    for (long long at = first_element(); at < size; at += threads()) {
        Sum sum = 0;
        for (long long split = 0; split < r.splits; ++split) sum += partial[split * size + at];
        const long long i = at % r.c_in, k = at / r.c_in % taps, o = at / r.c_in / taps;
        store(w[(o * r.c_in + i) * taps + k], sum);
    }
}
