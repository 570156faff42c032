// The scan of top_k: skips whole vectors that hold nothing above the threshold.
namespace forerun {
namespace {

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

}  // namespace
}  // namespace forerun
