//! What the fuzz targets share: how an input says in which pieces it arrives.
//!
//! The first bytes of an input choose, each at a fixed place, so that what lies behind them can be mutated without another
//! choice being made. `examples/fuzz_seeds.rs` writes the same form.

/// Cuts bytes into pieces, always in the same way for the same two bytes of input: of 1 to `1 + width` bytes, drawn by a
/// generator that `seed` starts. A width of 0 is byte by byte.
#[derive(Clone, Copy, Debug)]
pub struct Cuts {
    width: u8,
    seed: u8,
}

impl Cuts {
    pub fn new(width: u8, seed: u8) -> Self {
        Self { width, seed }
    }

    /// Lengths without end, none of them 0.
    pub fn lengths(self) -> impl Iterator<Item = usize> {
        let mut state = u32::from(self.seed) << 8 | 1;
        std::iter::repeat_with(move || {
            // Marsaglia's xorshift: any generator does.
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            1 + state as usize % (usize::from(self.width) + 1)
        })
    }

    /// The pieces of `bytes`, none of them empty.
    pub fn of(self, bytes: &[u8]) -> Vec<&[u8]> {
        let mut rest = bytes;
        let pieces = self.lengths().map_while(|length| {
            let (piece, behind) = rest.split_at(length.min(rest.len()));
            rest = behind;
            (!piece.is_empty()).then_some(piece)
        });
        pieces.collect()
    }
}
