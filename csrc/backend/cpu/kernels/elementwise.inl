// exp, SwiGLU and other operations without a reduction.
namespace forerun {
namespace {

// exp(x) = 2^n exp(r), n = round(x / ln2), |r| <= ln2 / 2 (Cody and Waite's two-part ln2), exp(r)
// by a polynomial of degree 7 with Taylor's coefficients (relative error below 3e-8). 0 below -87,
// +inf above 88.73; NaN stays NaN.
FORERUN_INLINE F32x16 exp_of_rest(F32x16 inside, I32x16 n) {
  const F32x16 whole = to_float(n);
  F32x16 r = fma(whole, splat(-0.693145752F), inside);
  r = fma(whole, splat(-1.42860677e-6F), r);
  F32x16 p = splat(1.0F / 5040.0F);
  p = fma(p, r, splat(1.0F / 720.0F));
  p = fma(p, r, splat(1.0F / 120.0F));
  p = fma(p, r, splat(1.0F / 24.0F));
  p = fma(p, r, splat(1.0F / 6.0F));
  p = fma(p, r, splat(0.5F));
  p = fma(p, r, splat(1.0F));
  return fma(p, r, splat(1.0F));
}
FORERUN_INLINE F32x16 exp_lanes(F32x16 x) {
  const F32x16 least = splat(-87.0F);
  const F32x16 inside = min(splat(89.0F), max(least, x));
  const I32x16 n = round_to_int(mul(inside, splat(1.44269504F)));
  return zero_if_less(x, least, scale_by_power(exp_of_rest(inside, n), n));
}
// The same bits for x <= 0 and NaN: 2^n is a normal number then.
FORERUN_INLINE F32x16 exp_to_one(F32x16 x) {
  const F32x16 least = splat(-87.0F);
  const F32x16 inside = max(least, x);
  const I32x16 n = round_to_int(mul(inside, splat(1.44269504F)));
  return zero_if_less(x, least, mul(exp_of_rest(inside, n), power_of_two(n)));
}

// g / (1 + exp(-g)) * u
FORERUN_INLINE F32x16 swiglu_lanes(F32x16 gate, F32x16 up) {
  const F32x16 denominator = add(splat(1.0F), exp_lanes(sub(zero(), gate)));
  return mul(div(gate, denominator), up);
}

void swiglu(const float* gate, const float* up, int64_t count, float* out) {
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) store(out + i, swiglu_lanes(load(gate + i), load(up + i)));
  const auto rest = static_cast<int>(count - i);
  if (rest > 0) store_n(out + i, swiglu_lanes(load_n(gate + i, rest), load_n(up + i, rest)), rest);
}

void add_rows(float* x, const float* y, int64_t count) {
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) store(x + i, add(load(x + i), load(y + i)));
  const auto rest = static_cast<int>(count - i);
  if (rest > 0) store_n(x + i, add(load_n(x + i, rest), load_n(y + i, rest)), rest);
}

void scale_row(const float* x, float factor, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = x[i] * factor;
}

void divide_row(const float* x, float divisor, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = x[i] / divisor;
}

void to_half(const float* x, int64_t count, uint16_t* out) {
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) store_half(out + i, load(x + i));
  const auto rest = static_cast<int>(count - i);
  if (rest == 0) return;
  uint16_t last[16];
  store_half(last, load_n(x + i, rest));
  std::memcpy(out + i, last, sizeof(uint16_t) * static_cast<size_t>(rest));
}

uint64_t read_bytes(const void* data, int64_t bytes) {
  const auto* p = static_cast<const uint8_t*>(data);
  I32x16 sum[8];
  for (int i = 0; i < 8; ++i) sum[i] = zero_int();
  for (int64_t at = 0; at + 512 <= bytes; at += 512) {
    for (int i = 0; i < 8; ++i) {
      const B64 vector = load_bytes(p + at + i * 64);
      I32x16 lanes_of;
      static_assert(sizeof(lanes_of) == sizeof(vector));
      std::memcpy(&lanes_of, &vector, sizeof(vector));
      sum[i] = max_int(sum[i], lanes_of);
    }
  }
  uint64_t total = 0;
  for (int i = 0; i < 8; ++i) total += static_cast<uint64_t>(max_lanes_int(sum[i]));
  return total;
}

}  // namespace
}  // namespace forerun
