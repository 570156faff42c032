#pragma once

#include <pybind11/pybind11.h>

void bind_engine(pybind11::module_& module);  // Engine, Session
void bind_tools(pybind11::module_& module);   // inspect, Tokenizer, dequantize, machine facts
