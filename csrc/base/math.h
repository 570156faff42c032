#pragma once

namespace forerun {

// exp and log with one fixed sequence of IEEE additions and multiplications (no fma, no libm), so
// that sampling gives the same bits on every machine and at every instruction set. Relative error
// below 3e-16 * 8 (double).
double exact_exp(double x);  // 0 below -708, +inf above 709.78; NaN stays NaN
double exact_log(double x);  // -inf at 0, NaN below

}  // namespace forerun
