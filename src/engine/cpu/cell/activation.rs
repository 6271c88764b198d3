//! Activations over lanes: the cells' own, compiled in, or any of ONNX's, chosen at run time.

use super::super::math::{
    Arithmetic, Plain, exp, exp_minus_one, log_one_plus, sigmoid, sigmoids, tanh,
};
use super::{LANES, Lanes};
use crate::kernel::{Activation, Cell};
use std::marker::PhantomData;

/// A cell's activations by role ([`Cell::roles`]), and their slopes from the value.
pub trait Activations: Copy {
    fn act<const ROLE: usize>(self, lanes: &mut Lanes);
    /// The same, and 1 − it; where it is σ, a small rest keeps its digits.
    #[inline(always)]
    fn act_and_rest<const ROLE: usize>(self, lanes: &mut Lanes) -> Lanes {
        self.act::<ROLE>(lanes);
        mapped(lanes, |y| 1.0 - y)
    }
    fn slope<const ROLE: usize>(self, value: &Lanes) -> Lanes;
}

#[inline(always)]
fn map(lanes: &mut Lanes, f: impl Fn(f32) -> f32) {
    for lane in lanes {
        *lane = f(*lane);
    }
}

#[inline(always)]
fn mapped(value: &Lanes, f: impl Fn(f32) -> f32) -> Lanes {
    let mut lanes = [0.0; LANES];
    for l in 0..LANES {
        lanes[l] = f(value[l]);
    }
    lanes
}

/// σ in place; returns 1 − σ.
#[inline(always)]
fn sigmoid_and_rest<A: Arithmetic>(lanes: &mut Lanes) -> Lanes {
    let rest = mapped(lanes, |a| sigmoids::<A>(a)[1]);
    map(lanes, sigmoid::<A>);
    rest
}

macro_rules! fixed {
    ($(#[$doc:meta])* $name:ident, $act:expr, $slope:expr, $act_2:expr, $slope_2:expr $(, $rest:ident)?) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default)]
        pub struct $name<A>(PhantomData<A>);
        impl<A: Arithmetic> Activations for $name<A> {
            #[inline(always)]
            fn act<const ROLE: usize>(self, lanes: &mut Lanes) {
                if ROLE == 2 || ROLE == 4 { map(lanes, $act_2) } else { map(lanes, $act) }
            }
            $(
                #[inline(always)]
                fn act_and_rest<const ROLE: usize>(self, lanes: &mut Lanes) -> Lanes {
                    if ROLE == 2 || ROLE == 4 {
                        self.act::<ROLE>(lanes);
                        return mapped(lanes, |y| 1.0 - y);
                    }
                    $rest::<A>(lanes)
                }
            )?
            #[inline(always)]
            fn slope<const ROLE: usize>(self, value: &Lanes) -> Lanes {
                if ROLE == 2 || ROLE == 4 { mapped(value, $slope_2) } else { mapped(value, $slope) }
            }
        }
    };
}

fixed!(
    /// tanh for g, n and the cell state, σ elsewhere.
    Standard, sigmoid::<A>, |y| y * (1.0 - y), tanh::<A>, |y| 1.0 - y * y, sigmoid_and_rest
);
fixed!(
    /// tanh everywhere.
    Tanh, tanh::<A>, |y| 1.0 - y * y, tanh::<A>, |y| 1.0 - y * y
);
fixed!(
    /// max(0, a) everywhere, NaN passed on.
    Relu, |a| if a <= 0.0 { 0.0 } else { a }, |y| if y > 0.0 { 1.0 } else { 0.0 },
    |a| if a <= 0.0 { 0.0 } else { a }, |y| if y > 0.0 { 1.0 } else { 0.0 }
);

/// The cell's choice, with its clip.
#[derive(Clone, Copy)]
pub struct Chosen {
    roles: [Role; 5],
}

#[derive(Clone, Copy)]
struct Role {
    activation: Activation,
    /// What goes in is clamped to ±clip; the values there have slope 0.
    clip: f32,
    borders: [f32; 2],
}

impl Role {
    fn new(activation: Activation, clip: Option<f32>) -> Self {
        let clip = clip.unwrap_or(f32::INFINITY);
        let mut role = Role { activation, clip, borders: [f32::NAN; 2] };
        if clip.is_finite() {
            let mut lanes = [clip; LANES];
            lanes[1] = -clip;
            role.activate(&mut lanes);
            role.borders = [lanes[0], lanes[1]];
        }
        role
    }

    #[inline(always)]
    fn clip(&self, lanes: &mut Lanes) {
        let clip = self.clip;
        if clip < f32::INFINITY {
            // Written so that NaN passes.
            map(lanes, |a| if a > clip { clip } else { a });
            map(lanes, |a| if a < -clip { -clip } else { a });
        }
    }

    #[inline(always)]
    fn activate(&self, lanes: &mut Lanes) {
        self.clip(lanes);
        match self.activation {
            Activation::Relu => map(lanes, |a| if a <= 0.0 { 0.0 } else { a }),
            Activation::Tanh => map(lanes, tanh::<Plain>),
            Activation::Sigmoid => map(lanes, sigmoid::<Plain>),
            Activation::Affine { alpha, beta } => map(lanes, |a| alpha * a + beta),
            Activation::LeakyRelu { alpha } => map(lanes, |a| if a < 0.0 { alpha * a } else { a }),
            Activation::ThresholdedRelu { alpha } => {
                map(lanes, |a| if a > alpha { a } else { 0.0 });
            }
            Activation::ScaledTanh { alpha, beta } => {
                map(lanes, |a| alpha * tanh::<Plain>(beta * a))
            }
            Activation::HardSigmoid { alpha, beta } => {
                map(lanes, |a| (alpha * a + beta).clamp(0.0, 1.0));
            }
            Activation::Elu { alpha } => {
                map(lanes, |a| if a < 0.0 { alpha * exp_minus_one(a) } else { a });
            }
            Activation::Softsign => map(lanes, |a| a / (1.0 + a.abs())),
            Activation::Softplus => {
                map(lanes, |a| {
                    (if a > 0.0 { a } else { 0.0 }) + log_one_plus(exp::<Plain>(-a.abs()))
                });
            }
            Activation::Identity => {}
        }
    }

    #[inline(always)]
    fn slope(&self, value: &Lanes) -> Lanes {
        let below = |y: f32, alpha: f32| y < 0.0 || y == 0.0 && alpha == 0.0;
        let mut slopes = match self.activation {
            Activation::Relu => mapped(value, |y| if y > 0.0 { 1.0 } else { 0.0 }),
            Activation::Tanh => mapped(value, |y| 1.0 - y * y),
            Activation::Sigmoid => mapped(value, |y| y * (1.0 - y)),
            Activation::Affine { alpha, .. } => [alpha; LANES],
            Activation::LeakyRelu { alpha } => {
                mapped(value, |y| if below(y, alpha) { alpha } else { 1.0 })
            }
            Activation::ThresholdedRelu { .. } => {
                mapped(value, |y| if y != 0.0 { 1.0 } else { 0.0 })
            }
            Activation::ScaledTanh { alpha, beta } => {
                mapped(value, |y| alpha * beta - beta / alpha * y * y)
            }
            Activation::HardSigmoid { alpha, .. } => {
                mapped(value, |y| if y > 0.0 && y < 1.0 { alpha } else { 0.0 })
            }
            Activation::Elu { alpha } => {
                mapped(value, |y| if below(y, alpha) { y + alpha } else { 1.0 })
            }
            Activation::Softsign => mapped(value, |y| (1.0 - y.abs()) * (1.0 - y.abs())),
            Activation::Softplus => mapped(value, |y| -exp_minus_one(-y)),
            Activation::Identity => [1.0; LANES],
        };
        if self.clip < f32::INFINITY {
            let at = |y: f32, border: f32| (y - border).abs() <= 5e-7 * border.abs();
            for l in 0..LANES {
                if at(value[l], self.borders[0]) || at(value[l], self.borders[1]) {
                    slopes[l] = 0.0;
                }
            }
        }
        slopes
    }
}

/// Applies an activation to each value.
pub fn activate(activation: Activation, values: &mut [f32]) {
    let role = Role::new(activation, None);
    by_lanes(values, |lanes| role.activate(lanes));
}

/// Multiplies each gradient with the activation's slope, from its value.
pub fn multiply_slopes(activation: Activation, values: &[f32], gradient: &mut [f32]) {
    let role = Role::new(activation, None);
    let mut slopes = [0.0; LANES];
    for (values, gradient) in values.chunks(LANES).zip(gradient.chunks_mut(LANES)) {
        slopes[..values.len()].copy_from_slice(values);
        let slopes = role.slope(&slopes);
        gradient.iter_mut().zip(slopes).for_each(|(gradient, slope)| *gradient *= slope);
    }
}

fn by_lanes(values: &mut [f32], f: impl Fn(&mut Lanes)) {
    let (whole, rest) = values.as_chunks_mut::<LANES>();
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || whole.iter_mut().for_each(&f),
    );
    let mut lanes = [0.0; LANES];
    lanes[..rest.len()].copy_from_slice(rest);
    f(&mut lanes);
    rest.copy_from_slice(&lanes[..rest.len()]);
}

impl Chosen {
    /// What the cell's options say.
    pub fn new(cell: &Cell) -> Self {
        let roles = cell.roles();
        // The cell state is not clipped.
        let clip = |role| if role == 4 { None } else { cell.clip };
        Chosen { roles: std::array::from_fn(|role| Role::new(roles[role], clip(role))) }
    }
}

impl Activations for Chosen {
    #[inline(always)]
    fn act<const ROLE: usize>(self, lanes: &mut Lanes) {
        self.roles[ROLE].activate(lanes);
    }
    #[inline(always)]
    fn act_and_rest<const ROLE: usize>(self, lanes: &mut Lanes) -> Lanes {
        let role = &self.roles[ROLE];
        if role.activation == Activation::Sigmoid {
            role.clip(lanes);
            return sigmoid_and_rest::<Plain>(lanes);
        }
        role.activate(lanes);
        mapped(lanes, |y| 1.0 - y)
    }
    #[inline(always)]
    fn slope<const ROLE: usize>(self, value: &Lanes) -> Lanes {
        self.roles[ROLE].slope(value)
    }
}
