// A matrix product on tiles. A run is the superblocks (or blocks) of neighbouring panels, one after
// the other; a unit is what one accumulation in tiles covers. While unit i is multiplied, unit i + 1
// is unpacked and the sums of unit i - 1 are read out: the three use different parts of the core.
// The fp32 chain of a row is the one of matmul_k.inl and matmul_legacy.inl.
//
// A form (tiles_k.inl, tiles_legacy.inl) says what a unit is. It has two planes of weights, each with
// sums of its own; there are two tiles of rows to a pass, so that a tile of weights serves both:
//   tiles 0, 1: sums of the first row tile, by plane    4: its activations    6, 7: weights
//   tiles 2, 3: sums of the second row tile             5: its activations
namespace forerun {
namespace {

constexpr int32_t kTileHeight = 16;
constexpr int32_t kRunRows = 256;           // rows whose sums fit beside the planes
constexpr int64_t kActivationBytes = 1 << 20;  // of a run, to stay in the second-level cache

// `rows` rows as tiles of one height, so that one configuration does: the last starts early where
// it would reach beyond them, and what another tile has already is not read out of it.
struct RowTiles {
  int32_t rows, count, height;
  explicit RowTiles(int32_t rows)
      : rows(rows),
        count(rows <= kTileHeight ? 1 : (rows + 2 * kTileHeight - 1) / (2 * kTileHeight) * 2),
        height((rows + count - 1) / count) {}
  int32_t begin(int32_t tile) const { return tile * height < rows ? tile * height : rows; }
  int32_t start(int32_t tile) const {
    return tile * height < rows - height ? tile * height : rows - height;
  }
};

template <typename Form, bool kTwo>
class TileRun {
 public:
  TileRun(const MatmulArgs& args, int32_t first, int32_t rows)
      : args_(args),
        form_(args, first),
        tiles_(rows),
        passes_(kTwo ? tiles_.count / 2 : 1),
        first_(first) {}

  // The tiles belong to the caller's thread: another library may use them between two runs, and a
  // thread that keeps them makes every switch between threads save 8 KiB. So they are configured
  // here and given back.
  void run() {
    TileConfig config;
    for (int tile = 0; tile < 8; ++tile) {
      const bool weights = tile >= 6;
      const bool inputs = tile == 4 || tile == 5;
      config.row_bytes[tile] = inputs ? Form::kDepth : 64;
      config.rows[tile] = static_cast<uint8_t>(weights ? Form::kDepth / 4 : tiles_.height);
    }
    tile_configure(config);
    clear();
    Unit unit = form_.unit(0, 0);
    for (int slot = 0; slot < Form::kSlots; ++slot) form_.unpack(unit, slot, planes_[0]);
    for (int32_t panel = 0; panel < args_.panels; ++panel) {
      for (int32_t u = 0; u < form_.units(); ++u) {
        const bool last = u + 1 == form_.units();
        next_ = last ? form_.unit(panel + 1, 0) : form_.unit(panel, u + 1);
        // passes * slots chances to unpack the next unit's slots
        due_ = panel + 1 == args_.panels && last ? Form::kSlots : 0;
        for (int32_t pass = 0; pass < passes_; ++pass) {
          multiply(unit, pass);
          done_ = {unit, pass, last && pass + 1 == passes_ ? panel : -1};
          pending_ = true;
        }
        unit = next_;
        current_ ^= 1;
      }
    }
    read_out();
    tile_release();
  }

 private:
  using Unit = typename Form::Unit;
  struct Done {
    Unit unit;
    int32_t pass = 0;
    int32_t panel = -1;  // that ends with this, or -1
  };

  void clear() {
    for (int32_t row = 0; row < tiles_.rows; ++row) store(acc_ + row * kPanelRows, zero());
  }

  FORERUN_INLINE void multiply(const Unit& unit, int32_t pass) {
    tile_zero<0>();
    tile_zero<1>();
    if constexpr (kTwo) {
      tile_zero<2>();
      tile_zero<3>();
    }
    const int32_t start0 = tiles_.start(2 * pass);
    const int32_t start1 = kTwo ? tiles_.start(2 * pass + 1) : 0;
#pragma GCC unroll 4
    for (int slot = 0; slot < Form::kSlots; ++slot) {
      form_.template multiply<kTwo>(unit, slot, planes_[current_], start0, start1);
      if (slot == 0 && pending_) read_out();
      if (pass * Form::kSlots + slot == due_ * passes_ && due_ < Form::kSlots) {
        form_.unpack(next_, due_++, planes_[current_ ^ 1]);
      }
    }
    tile_store<0>(sums_[0], 64);
    tile_store<1>(sums_[1], 64);
    if constexpr (kTwo) {
      tile_store<2>(sums_[2], 64);
      tile_store<3>(sums_[3], 64);
    }
  }

  void read_out() {
    for (int i = 0; i < (kTwo ? 2 : 1); ++i) {
      const int32_t tile = 2 * done_.pass + i;
      const int32_t begin = tiles_.begin(tile);
      const int32_t skip = begin - tiles_.start(tile);
      form_.read(done_.unit, begin, tiles_.begin(tile + 1), sums_[2 * i] + skip * kPanelRows,
                 sums_[2 * i + 1] + skip * kPanelRows, acc_ + begin * kPanelRows);
    }
    if (done_.panel < 0) return;
    store_tile(args_, done_.panel, first_, tiles_.rows, acc_);
    clear();
  }

  alignas(64) uint8_t planes_[2][Form::kPlaneBytes];
  alignas(64) int32_t sums_[4][kTileHeight * kPanelRows];
  alignas(64) float acc_[kRunRows * kPanelRows];
  const MatmulArgs& args_;
  Form form_;
  RowTiles tiles_;
  int32_t passes_;
  int32_t first_;
  Unit next_;
  Done done_;
  int32_t due_ = 0;
  int current_ = 0;
  bool pending_ = false;
};

template <typename Form>
void matmul_tiles(const MatmulArgs& args) {
  const int64_t fit = kActivationBytes / (int64_t{args.blocks} * Form::kActivationBytes) / 32 * 32;
  const int64_t limit = fit < 32 ? 32 : fit < kRunRows ? fit : kRunRows;
  const int64_t parts = (args.rows + limit - 1) / limit;
  const auto part = static_cast<int32_t>((args.rows + 32 * parts - 1) / (32 * parts) * 32);
  for (int32_t first = 0; first < args.rows; first += part) {
    const int32_t rows = args.rows - first < part ? args.rows - first : part;
    if (rows <= kTileHeight) {
      TileRun<Form, false>(args, first, rows).run();
    } else {
      TileRun<Form, true>(args, first, rows).run();
    }
  }
}

}  // namespace
}  // namespace forerun
