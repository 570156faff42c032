#pragma once

#include <pybind11/pybind11.h>

#include <memory>

#include "engine/engine.h"

// Closing an engine waits for its worker's step; other Python threads may run meanwhile.
struct Unlocked {
  void operator()(forerun::Engine* engine) const {
    const pybind11::gil_scoped_release unlocked;
    delete engine;
  }
};
using EnginePtr = std::unique_ptr<forerun::Engine, Unlocked>;
using EngineClass = pybind11::class_<forerun::Engine, EnginePtr>;

// Between the parts of long work without the GIL: throws what a signal's handler raised, such as
// KeyboardInterrupt.
inline void heed_signals() {
  const pybind11::gil_scoped_acquire gil;
  if (PyErr_CheckSignals() != 0) throw pybind11::error_already_set();
}

void bind_engine(pybind11::module_& module);                        // Engine, Session
void bind_request(pybind11::module_& module, EngineClass& engine);  // Request, Engine.submit
void bind_plan(pybind11::module_& module);                          // plan
void bind_features(EngineClass& engine);                            // Engine.features
void bind_tools(pybind11::module_& module);  // inspect, Tokenizer, dequantize, machine facts
