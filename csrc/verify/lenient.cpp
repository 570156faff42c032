#include "verify/lenient.h"

#include <cmath>

#include "base/error.h"

namespace forerun {

LenientVerifier::LenientVerifier(Settings settings)
    : epsilon_(settings.real("epsilon", 0.7, 1e-6, 1.0)) {
  const std::string form = settings.text("form", "linear");
  settings.done();
  if (form == "square") {
    form_ = Form::kSquare;
  } else if (form == "power") {
    form_ = Form::kPower;
  } else if (form != "linear") {
    throw Error(ErrorKind::kBadArgument,
                "option lenient.form is '" + form + "', expected linear, square or power");
  }
}

std::span<const Proposal> LenientVerifier::proposals() const {
  static constexpr Proposal kLegal[] = {Proposal::kIndependent, Proposal::kWithoutReplacement};
  return kLegal;
}

double LenientVerifier::eased(double p) const {
  switch (form_) {
    case Form::kLinear:
      return p / epsilon_;
    case Form::kSquare:
      return p / (epsilon_ * epsilon_);
    case Form::kPower:
      return p > 0.0 ? std::pow(p, epsilon_) : 0.0;
  }
  return p;
}

int32_t LenientVerifier::descend(const DraftTree& tree, int32_t node, const TokenLaw& p, Dice& dice,
                                 int32_t& bonus) {
  tree.draws(node, draws_);
  if (draws_.empty()) {
    bonus = draw_token(p, dice);
    return kStop;
  }
  eased_ = p;
  for (double& probability : eased_.probability) probability = eased(probability);
  residual_.begin(eased_, tree.law(node));
  const size_t i = residual_.index_of(tree.token()[draws_.front()]);
  if (dice.accept(residual_.r(i), residual_.s(i))) return draws_.front();
  residual_.cut();
  bonus = residual_.draw(eased_, dice);
  return kStop;
}

}  // namespace forerun
