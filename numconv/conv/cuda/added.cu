// The shares of a weight gradient, which `gradient.cu` summed, added in order.
#include "_numbers.cuh"

// The fields of `gradient.Reduction`, in its order.
struct Reduction {
    long long batch, groups, c_in, c_out, true_c_in, true_c_out;  // channels of a group, with zeros behind them and without
    long long x_size[3], w_size[3], y_size[3], stride[3], dilation[3], pad_lo[3];
    long long splits, tiles;  // shares of the pixels, and tiles of BK of them in each
    long long step[4];        // BK pixels further, as samples and positions along each axis
};

// w[o][i][k] = sum over splits of partial[split][h][o][k][i]. A thread owns one element, neighbours neighbouring i.
extern "C" __global__ void added(const Sum* partial, Stored* w, const Reduction r)
{
    const long long taps = r.w_size[0] * r.w_size[1] * r.w_size[2], share = r.groups * r.c_out * taps * r.c_in;
    const long long size = r.groups * r.true_c_out * taps * r.true_c_in;
    for (long long t = first_element(); t < size; t += threads()) {
        const long long i = t % r.true_c_in, k = t / r.true_c_in % taps, o = t / r.true_c_in / taps;
        const long long h = o / r.true_c_out, at = ((h * r.c_out + o % r.true_c_out) * taps + k) * r.c_in + i;
        Sum sum = 0;
        for (long long split = 0; split < r.splits; ++split) sum += partial[split * share + at];
        store(w[(o * r.true_c_in + i) * taps + k], sum);
    }
}
