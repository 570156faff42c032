// Falcon: rows that read the tokens and states before them through an LSTM of two layers.

#include "model/draft_head.h"

#include "model/views.h"

namespace forerun {

// A step of a layer: gates of `in` and of what the step before put out; `first`: there was none.
// tanh(y) = -1 + 2 sigmoid(2 y).
void DraftHead::run_lstm(const LstmLayer& layer, const Tensor& in, int32_t index, bool first,
                         HeadWorkspace& w) const {
  const int32_t rows = in.rows, width = config_.shape.width;
  const auto all = std::span(w.all_rows_).first(static_cast<size_t>(rows));
  const Tensor gates = w.gates_.first_rows(rows), out = w.out_[index].first_rows(rows);
  const Tensor cell = w.cell_[index].first_rows(rows), zeros = w.zeros_.first_rows(rows);
  const Tensor ones = columns(w.ones_.first_rows(rows), 0, width);
  const Tensor minus = w.minus_.first_rows(rows);
  const auto tanh = [&](const Tensor& y) {
    backend_->add(y, y);
    backend_->blend(y, ones, minus, y);
  };
  const LinearTask of_in[] = {layer.in.task(gates, "linear.fuse")};
  backend_->linear(in, of_in);
  if (!first) {
    const Tensor more = w.lstm_more_.first_rows(rows);
    const LinearTask of_out[] = {layer.hidden.task(more, "linear.fuse")};
    backend_->linear(out, of_out);
    backend_->add(gates, more);
  }
  const Tensor input = columns(gates, 0, width), forget = columns(gates, width, width);
  const Tensor fresh = columns(gates, 2 * width, width), shown = columns(gates, 3 * width, width);
  tanh(fresh);
  backend_->blend(input, fresh, zeros, input);
  if (!first) {
    backend_->blend(forget, cell, zeros, forget);
    backend_->add(input, forget);
  }
  backend_->gather_rows(input, all, cell);
  tanh(input);
  backend_->blend(shown, input, zeros, out);
}

// Every row has an LSTM of its own, over the last tokens and the states before them, so that a row
// is the same whatever was drafted before it.
void DraftHead::enter_falcon(const Tensor& states, bool own, HeadWorkspace& w) const {
  const int32_t width = config_.shape.width, token_width = config_.target.width;
  const int32_t span = config_.span, rows = own ? states.rows * span : states.rows;
  const auto all = std::span(w.all_rows_);
  const Tensor joined = w.joined_.first_rows(rows), token = w.token_.first_rows(rows);
  const Tensor state = columns(joined, token_width, width);
  for (int32_t step = 0; step < span; ++step) {
    backend_->gather_rows(columns(token, step * token_width, token_width),
                          all.first(static_cast<size_t>(rows)), columns(joined, 0, token_width));
    for (int32_t row = 0; row < (own ? span : 1); ++row) {
      backend_->gather_rows(columns(states, (row + step) * width, width),
                            all.first(static_cast<size_t>(states.rows)),
                            own ? every(state, span, row) : state);
    }
    run_lstm(lstm_[0], joined, 0, step == 0, w);
    run_lstm(lstm_[1], w.out_[0].first_rows(rows), 1, step == 0, w);
  }
  backend_->gather_rows(w.out_[1].first_rows(rows), all.first(static_cast<size_t>(rows)),
                        w.rows_.x.first_rows(rows));
}

}  // namespace forerun
