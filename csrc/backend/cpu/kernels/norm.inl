// RMSNorm: squares are summed in 16 lanes, one fma chain each, then by the fixed tree of sum_lanes.
namespace forerun {
namespace {

void rms_norm(const float* x, const float* weight, int32_t count, float epsilon, float* out) {
  F32x16 squares = zero();
  int32_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const F32x16 value = load(x + i);
    squares = fma(value, value, squares);
  }
  const int32_t rest = count - i;
  if (rest > 0) {
    const F32x16 value = load_n(x + i, rest);
    squares = fma(value, value, squares);
  }
  const float mean = sum_lanes(squares) / static_cast<float>(count);
  const F32x16 factor = splat(1.0F / __builtin_sqrtf(mean + epsilon));
  for (i = 0; i + 16 <= count; i += 16)
    store(out + i, mul(mul(load(x + i), factor), load(weight + i)));
  if (rest > 0)
    store_n(out + i, mul(mul(load_n(x + i, rest), factor), load_n(weight + i, rest)), rest);
}

}  // namespace
}  // namespace forerun
