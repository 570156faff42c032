#include "bindings/convert.h"

#include <pybind11/stl.h>

namespace py = pybind11;
using namespace py::literals;
using namespace forerun;

Sampling to_sampling(const py::dict& d) {
  Sampling s;
  for (const auto& [key, value] : d) {
    const auto name = key.cast<std::string>();
    if (name == "temperature")
      s.temperature = value.cast<float>();
    else if (name == "top_k")
      s.top_k = value.cast<int32_t>();
    else if (name == "top_p")
      s.top_p = value.cast<float>();
    else if (name == "min_p")
      s.min_p = value.cast<float>();
    else if (name == "repetition_penalty")
      s.repetition_penalty = value.cast<float>();
    else if (name == "frequency_penalty")
      s.frequency_penalty = value.cast<float>();
    else if (name == "presence_penalty")
      s.presence_penalty = value.cast<float>();
    else if (name == "logit_bias") {
      for (const auto& [token, bias] : value.cast<std::map<int32_t, float>>())
        s.logit_bias.emplace_back(token, bias);
    } else {
      throw Error(ErrorKind::kBadArgument, "unknown sampling option '" + name + "'");
    }
  }
  return s;
}

py::dict to_dict(const Stats& s) {
  return py::dict("steps"_a = s.steps, "tokens"_a = s.tokens, "drafted"_a = s.drafted,
                  "accepted"_a = s.accepted, "tau"_a = s.tau(),
                  "acceptance_rate"_a = s.acceptance_rate(),
                  "acceptance_by_depth"_a = s.acceptance_by_depth(),
                  "tried_by_depth"_a = s.tried_by_depth, "prompt_tokens"_a = s.prompt_tokens,
                  "reused_tokens"_a = s.reused_tokens, "prefill_seconds"_a = s.prefill_seconds,
                  "decode_seconds"_a = s.decode_seconds, "draft_seconds"_a = s.draft_seconds,
                  "verify_seconds"_a = s.verify_seconds, "lossy"_a = s.lossy,
                  "draft_failure"_a = s.draft_failure);
}

py::list to_list(const std::vector<Logprobs>& logprobs) {
  py::list out;
  for (const Logprobs& entry : logprobs) {
    py::list top;
    for (const TokenLogprob& other : entry.top)
      top.append(py::make_tuple(other.token, other.logprob));
    out.append(py::dict("token"_a = entry.chosen.token, "logprob"_a = entry.chosen.logprob,
                        "top"_a = top));
  }
  return out;
}

py::dict to_dict(const Completion& c, bool logprobs) {
  const bool features = c.features.width > 0 || c.features.top_k > 0;
  return py::dict("text"_a = c.text, "tokens"_a = c.tokens, "finish_reason"_a = c.finish_reason,
                  "logprobs"_a = logprobs ? py::object(to_list(c.logprobs)) : py::none(),
                  "features"_a = features ? py::object(to_tuple(c.features)) : py::none(),
                  "stats"_a = to_dict(c.stats));
}
