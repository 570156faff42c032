#include "base/math.h"

#include "base/exact_math.h"

namespace forerun {

double exact_exp(double x) { return exact::exp(x); }
double exact_log(double x) { return exact::log(x); }

}  // namespace forerun
