// Activations to signed bytes, per row and per block of 256 or 32 (packed.h).
namespace forerun {
namespace {

struct BlockScale {
  float d, inverse;
};

// From the largest magnitude, compared as bits: above every finite one come infinity and NaN.
FORERUN_INLINE BlockScale block_scale(int32_t magnitude_bits) {
  if (magnitude_bits >= 0x7F800000) return {__builtin_nanf(""), 0.0F};
  float amax;
  std::memcpy(&amax, &magnitude_bits, sizeof(amax));
  if (amax < 1e-30F) return {0.0F, 0.0F};
  return {amax / 127.0F, 127.0F / amax};
}

// Codes of 16 values; a block without a scale gets zeros, whatever the values are.
FORERUN_INLINE I32x16 codes_of(F32x16 x, BlockScale scale) {
  if (scale.inverse == 0.0F) return zero_int();
  return round_to_int(mul(x, splat(scale.inverse)));
}

void quantize_k(const float* x, int32_t blocks, ActivationK* out, int64_t stride) {
  for (int32_t b = 0; b < blocks; ++b, x += 256, out += stride) {
    I32x16 most = zero_int();
    for (int i = 0; i < 256; i += 16) most = max_int(most, magnitude_bits(load(x + i)));
    const BlockScale scale = block_scale(max_lanes_int(most));
    int32_t sum[16];
    for (int group = 0; group < 16; ++group) {
      const I32x16 code = codes_of(load(x + group * 16), scale);
      store_int8(out->code + group * 16, code);
      sum[group] = sum_lanes_int(code);
      out->start16[group] = -32 * sum[group];
      out->sum16[group] = static_cast<int16_t>(sum[group]);
    }
    for (int group = 0; group < 8; ++group) {
      out->sum32[group] = static_cast<int16_t>(sum[2 * group] + sum[2 * group + 1]);
    }
    out->d = scale.d;
  }
}

void quantize_32(const float* x, int32_t blocks, Activation32* out, int64_t stride) {
  for (int32_t b = 0; b < blocks; ++b, x += 32, out += stride) {
    const F32x16 low = load(x);
    const F32x16 high = load(x + 16);
    const BlockScale scale =
        block_scale(max_lanes_int(max_int(magnitude_bits(low), magnitude_bits(high))));
    const I32x16 low_code = codes_of(low, scale);
    const I32x16 high_code = codes_of(high, scale);
    store_int8(out->code, low_code);
    store_int8(out->code + 16, high_code);
    const int32_t sum = sum_lanes_int(add_int(low_code, high_code));
    out->sum = sum;
    out->start8 = -8 * sum;
    out->start16 = -16 * sum;
    out->start128 = -128 * sum;
    out->d = scale.d;
    out->d_sum = scale.d * static_cast<float>(sum);
  }
}

}  // namespace
}  // namespace forerun
