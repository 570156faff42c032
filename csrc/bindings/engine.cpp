#include "engine/engine.h"

#include <pybind11/functional.h>
#include <pybind11/stl.h>

#include "bindings/bindings.h"
#include "bindings/convert.h"

namespace py = pybind11;
using namespace py::literals;
using namespace forerun;

namespace {

const char* state_name(StepState state) {
  return state == StepState::kEnd           ? "end"
         : state == StepState::kContextFull ? "context"
                                            : "running";
}

py::dict to_dict(const StepResult& r) {
  return py::dict("tokens"_a = r.tokens, "state"_a = state_name(r.state),
                  "logprobs"_a = to_list(r.logprobs));
}

py::dict to_dict(const StepTree& tree) {
  py::list nodes;
  for (const StepTree::Node& node : tree.nodes) {
    nodes.append(py::dict("token"_a = node.token, "parent"_a = node.parent, "score"_a = node.score,
                          "source"_a = node.source));
  }
  return py::dict("nodes"_a = nodes, "path"_a = tree.path, "bonus"_a = tree.bonus);
}

// A Python callback that is called with the GIL held; signals and exceptions of the callback stop
// the request.
GenerateOptions to_options(int32_t max_tokens, const py::dict& sampling,
                           std::vector<std::string> stop, uint64_t seed,
                           std::optional<int32_t> logprobs, const py::object& on_text,
                           bool add_special, bool parse_special, std::exception_ptr& raised) {
  GenerateOptions options;
  options.max_tokens = max_tokens;
  options.sampling = to_sampling(sampling);
  options.stop = std::move(stop);
  options.seed = seed;
  options.logprobs = logprobs.value_or(-1);
  options.add_special = add_special;
  options.parse_special = parse_special;
  options.on_text = [on_text, &raised](std::string_view piece) {
    const py::gil_scoped_acquire gil;
    try {
      heed_signals();
      if (on_text.is_none()) return true;
      const py::object keep = on_text(py::str(piece.data(), piece.size()));
      return keep.is_none() || keep.cast<bool>();
    } catch (...) {
      raised = std::current_exception();
      return false;
    }
  };
  return options;
}

py::dict generate(Engine& engine, const std::variant<std::string, std::vector<int32_t>>& prompt,
                  int32_t max_tokens, const py::dict& sampling, std::vector<std::string> stop,
                  uint64_t seed, std::optional<int32_t> logprobs, const py::object& on_text,
                  bool add_special, bool parse_special, std::string tenant) {
  std::exception_ptr raised;
  GenerateOptions options = to_options(max_tokens, sampling, std::move(stop), seed, logprobs,
                                       on_text, add_special, parse_special, raised);
  options.tenant = std::move(tenant);
  Completion c;
  {
    const py::gil_scoped_release unlocked;
    if (const auto* text = std::get_if<std::string>(&prompt)) {
      c = engine.generate(std::string_view(*text), options);
    } else {
      c = engine.generate(std::span<const int32_t>(std::get<std::vector<int32_t>>(prompt)),
                          options);
    }
  }
  if (raised) std::rethrow_exception(raised);
  return ::to_dict(c, logprobs.has_value());
}

EnginePtr load(const std::string& target, const std::string& draft, std::vector<std::string> heads,
               std::optional<int32_t> threads, std::optional<int32_t> context, int32_t max_draft,
               std::optional<int32_t> fixed_draft, const std::string& policy,
               const std::string& verify, std::map<std::string, std::string> method_options,
               int64_t prefix_cache_bytes, const std::string& device, const std::string& placement,
               bool overlap, int64_t vram_limit, int64_t ram_limit, const std::string& cache,
               const std::string& kv_type, int32_t max_batch, int32_t max_queue, int64_t kv_bytes,
               std::vector<int32_t> record_taps, int32_t record_top_k, bool profile,
               const py::object& progress) {
  EngineOptions options;
  options.target = target;
  options.draft = draft;
  options.heads = std::move(heads);
  options.threads = threads.value_or(0);
  options.context = context.value_or(0);
  options.max_draft = max_draft;
  options.fixed_draft = fixed_draft.value_or(-1);
  options.policy = policy;
  options.verify = verify;
  options.method_options = std::move(method_options);
  options.prefix_cache_bytes = prefix_cache_bytes;
  options.device = device;
  options.placement = placement;
  options.overlap = overlap;
  options.vram_limit = vram_limit;
  options.ram_limit = ram_limit;
  options.cache = cache;
  options.kv_type = kv_type;
  options.max_batch = max_batch;
  options.max_queue = max_queue;
  options.kv_bytes = kv_bytes;
  options.record_taps = std::move(record_taps);
  options.record_top_k = record_top_k;
  options.profile = profile;
  if (!progress.is_none()) {
    options.progress = [&progress](double fraction) {
      const py::gil_scoped_acquire gil;
      heed_signals();
      progress(fraction);
    };
  }
  const py::gil_scoped_release unlocked;
  return EnginePtr(Engine::load(options).release());
}

py::list to_list(const std::vector<TraceSpan>& spans) {
  constexpr const char* kTracks[] = {"step", "stage", "operation"};
  py::list out;
  for (const TraceSpan& s : spans) {
    out.append(py::dict("name"_a = s.name, "track"_a = kTracks[static_cast<int>(s.track)],
                        "step"_a = s.step, "rows"_a = s.rows, "start_ns"_a = s.start_ns,
                        "duration_ns"_a = s.duration_ns, "bytes"_a = s.bytes,
                        "operations"_a = s.operations));
  }
  return out;
}

py::dict info(const Engine& engine) {
  const EngineInfo i = engine.info();
  return py::dict("architecture"_a = i.architecture, "path"_a = i.path, "draft"_a = i.draft,
                  "drafters"_a = i.drafters, "backend"_a = i.backend, "placement"_a = i.placement,
                  "parameters"_a = i.parameters, "weights_bytes"_a = i.weights_bytes,
                  "layers"_a = i.layers, "vocab"_a = i.vocab, "context"_a = i.context,
                  "threads"_a = i.threads, "kv_type"_a = i.kv_type,
                  "kv_bytes_per_token"_a = i.kv_bytes_per_token);
}

}  // namespace

void bind_engine(py::module_& module) {
  module.def("methods", [] {
    const auto list = [](std::span<const Method> methods) {
      py::list out;
      for (const Method& m : methods) {
        out.append(py::dict("name"_a = m.name, "summary"_a = m.summary, "paper"_a = m.paper,
                            "lossless"_a = m.lossless, "grown"_a = m.grown));
      }
      return out;
    };
    const Methods all = methods();
    return py::dict("drafters"_a = list(all.drafters), "policies"_a = list(all.policies),
                    "verifiers"_a = list(all.verifiers));
  });
  const auto unlocked = py::call_guard<py::gil_scoped_release>();

  py::class_<Session>(module, "Session")
      .def(
          "append", [](Session& s, const std::vector<int32_t>& tokens) { s.append(tokens); },
          "tokens"_a, unlocked)
      .def(
          "append",
          [](Session& s, const std::string& text, bool add_special, bool parse_special) {
            s.append(std::string_view(text), add_special, parse_special);
          },
          "text"_a, "add_special"_a = false, "parse_special"_a = true, unlocked)
      .def(
          "step",
          [](Session& s, std::optional<int32_t> most) {
            StepResult result;
            {
              const py::gil_scoped_release release;
              s.prefill(&heed_signals);
              result = s.step(most.value_or(INT32_MAX));
            }
            return to_dict(result);
          },
          "most"_a = py::none())
      .def("last_tree", [](const Session& s) { return to_dict(s.last_tree()); })
      .def("rewind", &Session::rewind, "length"_a, unlocked)
      .def("fork", &Session::fork, unlocked)
      .def_property_readonly("tokens", [](const Session& s) { return s.tokens(); })
      .def_property_readonly("stats", [](const Session& s) { return to_dict(s.stats()); })
      .def("__len__", &Session::length);

  EngineClass engine(module, "Engine");
  engine
      .def(py::init(&load), "target"_a, "draft"_a = "auto", "heads"_a = std::vector<std::string>(),
           "threads"_a = py::none(), "context"_a = py::none(), "max_draft"_a = 48,
           "fixed_draft"_a = py::none(), "policy"_a = "auto", "verify"_a = "match",
           "method_options"_a = std::map<std::string, std::string>(),
           "prefix_cache_bytes"_a = int64_t{512} << 20, "device"_a = "cpu", "placement"_a = "",
           "overlap"_a = true, "vram_limit"_a = 0, "ram_limit"_a = 0, "cache"_a = "",
           "kv_type"_a = "f16", "max_batch"_a = 8, "max_queue"_a = 256, "kv_bytes"_a = 0,
           "record_taps"_a = std::vector<int32_t>(), "record_top_k"_a = 0, "profile"_a = false,
           "progress"_a = py::none())
      .def("generate", &generate, "prompt"_a, "max_tokens"_a = 256, "sampling"_a = py::dict(),
           "stop"_a = std::vector<std::string>(), "seed"_a = 0, "logprobs"_a = py::none(),
           "on_text"_a = py::none(), "add_special"_a = true, "parse_special"_a = true,
           "tenant"_a = "")
      .def(
          "complete_many",
          [](Engine& e, const std::string& prompt, int32_t count, int32_t max_tokens,
             double ngram_weight, const std::string& corpus, std::vector<std::string> stop) {
            ManyOptions options;
            options.count = count;
            options.max_tokens = max_tokens;
            options.ngram_weight = ngram_weight;
            options.corpus = corpus;
            options.stop = std::move(stop);
            options.watch = &heed_signals;
            std::vector<Alternative> found;
            {
              const py::gil_scoped_release release;
              found = e.complete_many(prompt, options);
            }
            py::list out;
            for (const Alternative& a : found) {
              out.append(py::dict("text"_a = a.text, "tokens"_a = a.tokens, "score"_a = a.score,
                                  "finish_reason"_a = a.finish_reason));
            }
            return out;
          },
          "prompt"_a, "count"_a = 3, "max_tokens"_a = 16, "ngram_weight"_a = 0.5, "corpus"_a = "",
          "stop"_a = std::vector<std::string>())
      .def(
          "session",
          [](Engine& e, const py::dict& sampling, uint64_t seed, std::optional<int32_t> logprobs,
             const std::string& tenant) {
            return e.session(to_sampling(sampling), seed, logprobs.value_or(-1), tenant);
          },
          "sampling"_a = py::dict(), "seed"_a = 0, "logprobs"_a = py::none(), "tenant"_a = "",
          py::keep_alive<0, 1>())
      .def(
          "step",
          [](Engine& e, const std::vector<Session*>& sessions) {
            std::vector<StepResult> results;
            {
              const py::gil_scoped_release release;
              results = e.step(sessions);
            }
            py::list out;
            for (const StepResult& result : results) out.append(to_dict(result));
            return out;
          },
          "sessions"_a)
      .def("encode", &Engine::encode, "text"_a, "add_special"_a = true, "parse_special"_a = true)
      .def(
          "decode",
          [](const Engine& e, const std::vector<int32_t>& tokens, bool special) {
            return py::bytes(e.decode(tokens, special));
          },
          "tokens"_a, "special"_a = false)
      .def(
          "token_text",
          [](const Engine& e, int32_t token) { return py::bytes(e.token_text(token)); }, "token"_a)
      .def("measure_verify", &Engine::measure_verify, "rows"_a, "context"_a = 256, "repeats"_a = 5,
           unlocked)
      .def("measure_prefill", &Engine::measure_prefill, "tokens"_a = 512, "repeats"_a = 3, unlocked)
      .def(
          "layer_agreement",
          [](Engine& e, const std::vector<int32_t>& tokens,
             const std::vector<std::vector<int32_t>>& sets) {
            return e.layer_agreement(tokens, sets, &heed_signals);
          },
          "tokens"_a, "sets"_a, unlocked)
      .def(
          "parallel_agreement",
          [](Engine& e, const std::vector<int32_t>& tokens,
             const std::vector<std::string>& groupings) {
            return e.parallel_agreement(tokens, groupings, &heed_signals);
          },
          "tokens"_a, "groupings"_a, unlocked)
      .def("profile",
           [](Engine& e) {
             std::vector<TraceSpan> spans;
             {
               const py::gil_scoped_release release;
               spans = e.profile();
             }
             return to_list(spans);
           })
      .def("replace_head", &Engine::replace_head, "path"_a, unlocked)
      .def("save_drafts", &Engine::save_drafts, "path"_a, unlocked)
      .def_property_readonly("bos_token", &Engine::bos_token)
      .def_property_readonly("eos_token", &Engine::eos_token)
      .def_property_readonly("end_tokens", &Engine::end_tokens)
      .def_property_readonly("chat_template", &Engine::chat_template)
      .def_property_readonly("info", &info)
      .def_property_readonly("stats", [](const Engine& e) {
        Stats stats;
        {
          const py::gil_scoped_release release;
          stats = e.stats();
        }
        return to_dict(stats);
      });
  bind_request(module, engine);
  bind_features(engine);
}
