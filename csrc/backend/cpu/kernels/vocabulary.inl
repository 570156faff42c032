// Scans over the logits of a vocabulary: whole vectors that hold nothing of interest are skipped.
namespace forerun {
namespace {

constexpr float kNoNumber = -__builtin_inff();

// The number before x, so that "at least x" can be asked as "greater".
float number_below(float x) {
  if (!(x > kNoNumber)) return kNoNumber;
  if (x == 0.0F) return -__FLT_DENORM_MIN__;
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  bits += x > 0.0F ? UINT32_MAX : 1U;
  std::memcpy(&x, &bits, sizeof(bits));
  return x;
}

int64_t find_above(const float* x, int64_t begin, int64_t count, float threshold) {
  const F32x16 least = splat(threshold);
  int64_t i = begin;
  for (; i + 16 <= count; i += 16) {
    const uint32_t mask = mask_greater(load(x + i), least);
    if (mask != 0) return i + __builtin_ctz(mask);
  }
  for (; i < count; ++i) {
    if (x[i] > threshold) return i;
  }
  return count;
}

int64_t largest(const float* x, int64_t count) {
  F32x16 most = splat(kNoNumber);
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) most = max(load(x + i), most);
  float value = max_lanes(most);
  for (; i < count; ++i) value = x[i] > value ? x[i] : value;
  if (!(value > kNoNumber)) return 0;
  return find_above(x, 0, count, number_below(value));
}

// The first word of Philox4x32-10 (base/random.h) for 16 tokens.
FORERUN_INLINE I32x16 noise_bits(const NoiseScan& scan, I32x16 token) {
  const auto where = static_cast<uint64_t>(scan.position);
  const auto splat_bits = [](uint64_t x) {
    return splat_int(static_cast<int32_t>(static_cast<uint32_t>(x)));
  };
  I32x16 a = splat_bits(where), b = token, c = zero_int(), d = splat_bits(where >> 32);
  auto key0 = static_cast<uint32_t>(scan.seed);
  auto key1 = static_cast<uint32_t>(scan.seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const Product p = multiply_wide(a, 0xD2511F53U);
    const Product q = multiply_wide(c, 0xCD9E8D57U);
    a = xor_int(xor_int(q.high, b), splat_bits(key0));
    c = xor_int(xor_int(p.high, d), splat_bits(key1));
    b = q.low;
    d = p.low;
    key0 += 0x9E3779B9U;
    key1 += 0xBB67AE85U;
  }
  return a;
}

// At least G = -log(-log u) of these bits. With m the top 24 bits of their complement, 1 - u is at
// least m / 2^24, and G <= -log(1 - u) <= (24 - log2 m) log 2. The bits of m as a float, over 2^23
// and less 127, are at most log2 m, since log2(1 + f) >= f for f in [0, 1]. 1e-4 covers rounding.
FORERUN_INLINE F32x16 noise_bound(I32x16 bits) {
  const F32x16 m = to_float(shift_right<8>(xor_int(bits, splat_int(-1))));
  constexpr float kLog2 = 0.693147181F;
  return fma(to_float(magnitude_bits(m)), splat(-kLog2 * 0x1p-23F), splat(151.0F * kLog2 + 1e-4F));
}

struct Hurdles {
  F32x16 best, temperature, least, least_scaled, score;
};

FORERUN_INLINE uint32_t contenders(const NoiseScan& scan, const Hurdles& over, F32x16 x,
                                   int64_t first) {
  constexpr float kMostNoise = 22.875F;
  const F32x16 scaled = div(sub(x, over.best), over.temperature);
  const uint32_t able = mask_greater(add(scaled, splat(kMostNoise)), over.score) &
                        mask_greater(x, over.least) & mask_greater(scaled, over.least_scaled);
  if (able == 0) return 0;
  const I32x16 token = add_int(lane_numbers(), splat_int(static_cast<int32_t>(first)));
  const F32x16 reach = add(scaled, noise_bound(noise_bits(scan, token)));
  return able & mask_greater(reach, over.score);
}

int64_t find_contender(const NoiseScan& scan, int64_t begin, int64_t end, float least,
                       float score) {
  const Hurdles over = {splat(scan.best), splat(scan.temperature), splat(number_below(least)),
                        splat(number_below(scan.least_scaled)), splat(number_below(score))};
  int64_t i = begin;
  for (; i + 16 <= end; i += 16) {
    const uint32_t mask = contenders(scan, over, load(scan.logits + i), i);
    if (mask != 0) return i + __builtin_ctz(mask);
  }
  const auto rest = static_cast<int>(end - i);
  if (rest <= 0) return end;
  const uint32_t inside = (1U << rest) - 1;
  const uint32_t mask = inside & contenders(scan, over, load_n(scan.logits + i, rest), i);
  return mask != 0 ? i + __builtin_ctz(mask) : end;
}

Mass mass(const NoiseScan& scan, int64_t begin, int64_t end, float least) {
  constexpr int64_t kChunk = 16 * 16;
  const F32x16 best = splat(scan.best), temperature = splat(scan.temperature);
  const F32x16 hurdle = splat(least), lowest = splat(-__FLT_MAX__);
  Mass sum;
  for (int64_t chunk = begin; chunk < end; chunk += kChunk) {
    const int64_t chunk_end = chunk + kChunk < end ? chunk + kChunk : end;
    F32x16 total = zero(), above = zero();
    for (int64_t i = chunk; i < chunk_end; i += 16) {
      const auto rest = static_cast<int>(chunk_end - i < 16 ? chunk_end - i : 16);
      F32x16 x;
      if (rest == 16) {
        x = load(scan.logits + i);
      } else {
        float padded[16];
        store(padded, lowest);
        std::memcpy(padded, scan.logits + i, sizeof(float) * static_cast<size_t>(rest));
        x = load(padded);
      }
      x = max(x, lowest);  // NaN too
      const F32x16 weight = exp_lanes(div(sub(x, best), temperature));
      total = add(total, weight);
      above = add(above, zero_if_less(x, hurdle, weight));
    }
    sum.total += static_cast<double>(sum_lanes(total));
    sum.above += static_cast<double>(sum_lanes(above));
  }
  return sum;
}

}  // namespace
}  // namespace forerun
