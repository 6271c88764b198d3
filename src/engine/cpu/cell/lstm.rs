//! LSTM with its options; `shaders/cell/lstm.wgsl`.

use super::{Activations, BackwardRow, ForwardRow, LANES, Lanes, add, load, store};
use crate::kernel::Cell;

/// Roles of the activations.
const I: usize = 0;
const F: usize = 1;
const G: usize = 2;
const O: usize = 3;
const H: usize = 4;

/// What changes the arithmetic besides the activations.
#[derive(Clone, Copy)]
pub struct Options {
    peepholes: bool,
    coupled: bool,
    cell_clip: f32,
    /// The output is left to [`output`], which sees c through a norm.
    normed: bool,
}

impl Options {
    pub const NONE: Options =
        Options { peepholes: false, coupled: false, cell_clip: f32::INFINITY, normed: false };

    pub fn new(cell: &Cell) -> Self {
        Options {
            peepholes: cell.peepholes,
            coupled: cell.coupled,
            cell_clip: cell.cell_clip.unwrap_or(f32::INFINITY),
            normed: cell.layer_norm.is_some(),
        }
    }

    /// Blocks of g and o; f, where there is one, is block 1.
    #[inline(always)]
    fn gate_blocks(self) -> [usize; 2] {
        if self.coupled { [1, 2] } else { [2, 3] }
    }

    #[inline(always)]
    fn clip(self, c: &mut Lanes) {
        if self.cell_clip < f32::INFINITY {
            for c in c {
                *c = if *c > self.cell_clip { self.cell_clip } else { *c };
                *c = if *c < -self.cell_clip { -self.cell_clip } else { *c };
            }
        }
    }
}

/// Whether no option is used.
#[inline(always)]
pub fn is_plain(cell: &Cell) -> bool {
    cell.activations.is_none()
        && cell.clip.is_none()
        && !cell.peepholes
        && !cell.coupled
        && cell.cell_clip.is_none()
        && cell.layer_norm.is_none()
}

/// a += p⊙c.
#[inline(always)]
fn peep(a: &mut Lanes, p: &[f32], j: usize, c: &Lanes) {
    let p = load(p, j);
    for l in 0..LANES {
        a[l] += p[l] * c[l];
    }
}

/// A gate's pre-activations: what is in its block, and its bias.
#[inline(always)]
fn biased(gates: &[f32], bias: &[f32], block: std::ops::Range<usize>, j: usize) -> Lanes {
    let (mut a, b) = (load(&gates[block.clone()], j), load(&bias[block], j));
    for l in 0..LANES {
        a[l] += b[l];
    }
    a
}

/// i, f, o = σ(·), g = tanh(·); c' = f⊙c + i⊙g; h' = o⊙tanh(c').
#[inline(always)]
pub fn forward(act: impl Activations, options: Options, row: ForwardRow) {
    let [h_new, c_new, ..] = row.new;
    let n = c_new.len();
    let c_old = &row.old[1][..n];
    let (gates, bias) = (row.gates, row.bias);
    let [gate_g, gate_o] = options.gate_blocks().map(|g| g * n);
    let peephole = |k: usize| &row.unit[k * n..(k + 1) * n];
    for j in (0..n).step_by(LANES) {
        // Without `array::map`, whose closure would not be compiled for the instruction set.
        let mut i = biased(gates, bias, 0..n, j);
        let mut g = biased(gates, bias, gate_g..gate_g + n, j);
        let mut o = biased(gates, bias, gate_o..gate_o + n, j);
        let old = load(c_old, j);
        if options.peepholes {
            peep(&mut i, peephole(0), j, &old);
        }
        act.act::<I>(&mut i);
        act.act::<G>(&mut g);
        let mut f = [0.0; LANES];
        if options.coupled {
            for l in 0..LANES {
                f[l] = 1.0 - i[l];
            }
        } else {
            f = biased(gates, bias, n..2 * n, j);
            if options.peepholes {
                peep(&mut f, peephole(1), j, &old);
            }
            act.act::<F>(&mut f);
            store(f, &mut gates[n..2 * n], j);
        }
        let mut c = [0.0; LANES];
        for l in 0..LANES {
            c[l] = f[l] * old[l] + i[l] * g[l];
        }
        options.clip(&mut c);
        if options.peepholes {
            peep(&mut o, peephole(if options.coupled { 1 } else { 2 }), j, &c);
        }
        act.act::<O>(&mut o);
        store(i, &mut gates[..n], j);
        store(g, &mut gates[gate_g..gate_g + n], j);
        store(o, &mut gates[gate_o..gate_o + n], j);
        store(c, c_new, j);
    }
    if !options.normed {
        // A loop of its own: behind all that c needs, tanh would wait.
        output(act, &gates[gate_o..gate_o + n], c_new, h_new);
    }
}

/// h' = o⊙tanh(y), y what the norm makes of c'.
#[inline(always)]
pub fn output(act: impl Activations, o: &[f32], y: &[f32], h_new: &mut [f32]) {
    let n = h_new.len();
    for j in (0..n).step_by(LANES) {
        let (mut h, o) = (load(y, j), load(o, j));
        act.act::<H>(&mut h);
        for l in 0..LANES {
            h[l] *= o[l];
        }
        store(h, h_new, j);
    }
}

/// do = dh'⊙tanh(y)⊙o' and dy = dh'⊙o⊙tanh' over lanes.
#[inline(always)]
fn output_gradients(act: impl Activations, o: &Lanes, y: Lanes, dh: &Lanes) -> [Lanes; 2] {
    let mut value = y;
    act.act::<H>(&mut value);
    let (slope_o, slope_y) = (act.slope::<O>(o), act.slope::<H>(&value));
    let (mut d_o, mut d_y) = ([0.0; LANES], [0.0; LANES]);
    for l in 0..LANES {
        d_o[l] = dh[l] * value[l] * slope_o[l];
        d_y[l] = dh[l] * o[l] * slope_y[l];
    }
    [d_o, d_y]
}

/// The same over a row: `y` → dy, `dh` → do.
#[inline(always)]
pub fn output_backward(act: impl Activations, o: &[f32], y: &mut [f32], dh: &mut [f32]) {
    for j in (0..y.len()).step_by(LANES) {
        let [d_o, d_y] = output_gradients(act, &load(o, j), load(y, j), &load(dh, j));
        store(d_o, dh, j);
        store(d_y, y, j);
    }
}

/// dc = dc' + dy + p_o⊙do, 0 where c' was clamped; di = dc⊙g⊙f'; df = dc⊙c⊙f'; dg = dc⊙i⊙g';
/// coupled: di = dc⊙(g−c)⊙f'; to c: dc⊙f + p_i⊙di + p_f⊙df.
#[inline(always)]
pub fn backward(act: impl Activations, options: Options, row: BackwardRow) {
    let [dh, dc, ..] = row.carry;
    let n = dc.len();
    let c_old = &row.old[1][..n];
    let (gates, d_unit) = (row.gates, row.d_unit);
    let [gate_g, gate_o] = options.gate_blocks().map(|g| g * n);
    let last = if options.coupled { 1 } else { 2 };
    let peephole = |k: usize| &row.unit[k * n..(k + 1) * n];
    for j in (0..n).step_by(LANES) {
        let i = load(&gates[..n], j);
        let g = load(&gates[gate_g..gate_g + n], j);
        let o = load(&gates[gate_o..gate_o + n], j);
        let old = load(c_old, j);
        let mut f = [0.0; LANES];
        if options.coupled {
            for l in 0..LANES {
                f[l] = 1.0 - i[l];
            }
        } else {
            f = load(&gates[n..2 * n], j);
        }
        let mut unclipped = [0.0; LANES];
        for l in 0..LANES {
            unclipped[l] = f[l] * old[l] + i[l] * g[l];
        }
        let mut c = unclipped;
        options.clip(&mut c);
        let [d_o, d_y] = match row.normed {
            Some([d_o, d_y]) => [load(d_o, j), load(d_y, j)],
            None => output_gradients(act, &o, c, &load(dh, j)),
        };
        let mut d = load(dc, j);
        for l in 0..LANES {
            d[l] += d_y[l];
        }
        if options.peepholes {
            peep(&mut d, peephole(last), j, &d_o);
            let share = product(&d_o, &c);
            add(share, &mut d_unit[last * n..(last + 1) * n], j);
        }
        if options.cell_clip < f32::INFINITY {
            for l in 0..LANES {
                d[l] = if unclipped[l].abs() < options.cell_clip { d[l] } else { 0.0 };
            }
        }
        let (slope_i, slope_g) = (act.slope::<I>(&i), act.slope::<G>(&g));
        let (mut di, mut dg, mut d_old) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        for l in 0..LANES {
            let other = if options.coupled { g[l] - old[l] } else { g[l] };
            di[l] = d[l] * other * slope_i[l];
            dg[l] = d[l] * i[l] * slope_g[l];
            d_old[l] = d[l] * f[l];
        }
        if !options.coupled {
            let slope_f = act.slope::<F>(&f);
            let mut df = [0.0; LANES];
            for l in 0..LANES {
                df[l] = d[l] * old[l] * slope_f[l];
            }
            store(df, &mut gates[n..2 * n], j);
            if options.peepholes {
                peep(&mut d_old, peephole(1), j, &df);
                add(product(&df, &old), &mut d_unit[n..2 * n], j);
            }
        }
        if options.peepholes {
            peep(&mut d_old, peephole(0), j, &di);
            add(product(&di, &old), &mut d_unit[..n], j);
        }
        store(di, &mut gates[..n], j);
        store(dg, &mut gates[gate_g..gate_g + n], j);
        store(d_o, &mut gates[gate_o..gate_o + n], j);
        store(d_old, dc, j);
        if !dh.is_empty() {
            store([0.0; LANES], dh, j);
        }
    }
}

#[inline(always)]
fn product(a: &Lanes, b: &Lanes) -> Lanes {
    let mut lanes = [0.0; LANES];
    for l in 0..LANES {
        lanes[l] = a[l] * b[l];
    }
    lanes
}
