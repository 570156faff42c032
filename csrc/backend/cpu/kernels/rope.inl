// Rotary embedding: (a, b) -> (fma(-b, sin, a cos), fma(b, cos, a sin)).
namespace forerun {
namespace {

FORERUN_INLINE void rotate_one(float* a, float* b, float cosine, float sine) {
  const float x = *a;
  const float y = *b;
  *a = __builtin_fmaf(-y, sine, x * cosine);
  *b = __builtin_fmaf(y, cosine, x * sine);
}

void rope(float* x, int32_t heads, int32_t head_dim, const float* cos_sin, int32_t rotary,
          bool interleaved) {
  const int32_t half = rotary / 2;
  const float* cosine = cos_sin;
  const float* sine = cos_sin + half;
  for (int32_t head = 0; head < heads; ++head, x += head_dim) {
    int32_t i = 0;
    if (interleaved) {
      for (; i < half; ++i) rotate_one(x + 2 * i, x + 2 * i + 1, cosine[i], sine[i]);
      continue;
    }
    for (; i + 16 <= half; i += 16) {
      const F32x16 a = load(x + i);
      const F32x16 b = load(x + half + i);
      const F32x16 c = load(cosine + i);
      const F32x16 s = load(sine + i);
      store(x + i, fma(sub(zero(), b), s, mul(a, c)));
      store(x + half + i, fma(b, c, mul(a, s)));
    }
    for (; i < half; ++i) rotate_one(x + i, x + half + i, cosine[i], sine[i]);
  }
}

}  // namespace
}  // namespace forerun
