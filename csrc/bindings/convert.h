#pragma once

#include <pybind11/pybind11.h>

#include "engine/engine.h"

// Values of the library as Python objects and back.

forerun::Sampling to_sampling(const pybind11::dict& values);
pybind11::dict to_dict(const forerun::Stats& stats);
pybind11::list to_list(const std::vector<forerun::Logprobs>& logprobs);
pybind11::tuple to_tuple(forerun::Features features);  // states, ids, logprobs as arrays
pybind11::dict to_dict(const forerun::Completion& completion, bool logprobs);
