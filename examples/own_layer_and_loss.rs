//! A layer and a loss of your own in a model that is trained like any other.
//!
//! `cargo run --release --example own_layer_and_loss` takes a second.

use recurra::kernel::{Activation, Combine, Rows, View, With};
use recurra::layer::Initializer;
use recurra::loss::record_value;
use recurra::model::{Fit, Flow, Layer, Samples, Sequences, Sequential, Targets};
use recurra::schedule::Var;
use recurra::train::{TrainOptions, check_gradients};
use recurra::{Engine, Error, Linear, NamedTensors, Objective, Recorder, Result, Target};

/// y = x ⊙ σ(W·x + b): each step decides what of it goes on.
struct Gate(Linear);

impl Gate {
    fn new(name: &str, width: usize) -> Self {
        Gate(Linear { activation: Some(Activation::Sigmoid), ..Linear::new(name, width, width) })
    }
}

/// to = a ⊙ b, of the same size, or added to it.
fn product(rec: &mut Recorder, [a, b, to]: [View; 3], accumulate: bool) -> Result<()> {
    let row = |view: View| Rows::new(view, view.len);
    let op = Combine::copy([1, a.len], row(a), row(to)).and(With::Product, row(b));
    rec.combine(op.accumulating(accumulate), a, to, Some(b))
}

impl Layer for Gate {
    fn name(&self) -> &str {
        &self.0.name
    }
    fn describe(&self) -> String {
        format!("gate {}", self.0.input)
    }
    fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        Layer::parameters(&self.0)
    }
    fn init(&self, generator: &mut Initializer, into: &mut NamedTensors) {
        self.0.init(generator, into);
    }
    fn record(&self, rec: &mut Recorder, flow: Flow) -> Result<Flow> {
        let x = flow.rows()?;
        let open = self.0.record(rec, x)?;
        let y = rec.temporary("gated", [x.rows, x.columns])?;
        product(rec, [x.view, open.view, y.view], false)?;
        // dx += dy ⊙ open, d open = dy ⊙ x; the linear layer goes on from there.
        rec.on_backward(move |rec| {
            let Some(dy) = rec.gradient(y) else { return Ok(()) };
            for (part, other) in [(x, open), (open, x)] {
                if let Some((d, accumulate)) = rec.gradient_target(part)? {
                    product(rec, [dy, other.view, d], accumulate)?;
                }
            }
            Ok(())
        });
        flow.with(y)
    }
}

/// The mean of (x − y)⁴ over all rows, which minds large errors more than the mean square. (It takes no mask: all rows
/// are whole here.)
struct Fourth;

impl Objective for Fourth {
    fn record(&self, rec: &mut Recorder, x: Var, target: Target, mask: Option<View>) -> Result<()> {
        let (Target::Values(wanted), None) = (target, mask) else {
            return Err(Error::invalid(
                "the fourth power needs values, and rows that are all there",
            ));
        };
        let (count, shape) = (x.view.len as f32, [x.rows, x.columns]);
        let names = ["minus", "error", "again", "square", "cube", "fourth"];
        let made: Result<Vec<Var>> =
            names.into_iter().map(|name| rec.temporary_f32(name, shape)).collect();
        let made = made?;
        let [minus, error, again, square, cube, fourth] = [0, 1, 2, 3, 4, 5].map(|i| made[i].view);
        // −y, then x − y, and its powers. A launch reads a buffer once: squares need a copy.
        let row = |view: View| Rows::new(view, view.len);
        let negative = Combine::copy([1, wanted.len], row(wanted), row(minus)).scaled(-1.0);
        rec.combine(negative, wanted, minus, None)?;
        for to in [error, again] {
            let difference = Combine::copy([1, wanted.len], row(x.view), row(to));
            rec.combine(difference.and(With::Sum, row(minus)), x.view, to, Some(minus))?;
        }
        product(rec, [error, again, square], false)?;
        product(rec, [square, error, cube], false)?;
        product(rec, [cube, error, fourth], false)?;
        record_value(rec, fourth, 1.0 / count, None)?;
        if rec.is_training() {
            // The gradient is 4·(x − y)³ / N.
            let slope = rec.temporary_f32("slope", [x.rows, x.columns])?;
            let op = Combine::copy([1, wanted.len], row(cube), row(slope.view)).scaled(4.0 / count);
            rec.combine(op, cube, slope.view, None)?;
            rec.seed_gradient(x, slope)?;
        }
        Ok(())
    }
}

fn main() -> Result<()> {
    // The largest value of each sequence of twelve.
    let mut random = Initializer::new(1);
    let list: Vec<Vec<f32>> = (0..640).map(|_| random.uniform(12, 1.0)).collect();
    let largest = list.iter().map(|x| vec![x.iter().copied().fold(-1.0, f32::max)]).collect();
    let samples = Samples::new(Sequences::values(1, list), Targets::value(1, largest))?;

    let model =
        Sequential::values(1).gru(16).layer(Gate::new("gate", 16)).last_step().linear(1).build()?;
    print!("{}", model.summary());
    let engine = Engine::cpu(Some(1))?;
    let fit = Fit::new(&model, &samples)?.with_loss(&Fourth);

    // Gradients of one's own are checked against differences of the loss.
    let options = TrainOptions { learning_rate: 0.01, ..TrainOptions::new(fit.steps(100)) };
    let checks = check_gradients(&engine, &fit, &options)?;
    let worst = checks.iter().map(|check| check.error()).fold(0.0, f64::max);
    println!("{} gradients, off by {:.3} % at most", checks.len(), 100.0 * worst);

    let trained = fit.run(&engine, options, |_| Ok(()))?;
    let [first, last] =
        [trained.losses.first(), trained.losses.last()].map(|l| l.map_or(0.0, |l| l.1));
    println!("mean fourth power of the error: {first:.4} at first, {last:.6} at last");
    let new: Vec<Vec<f32>> = (0..3).map(|_| random.uniform(12, 1.0)).collect();
    let predicted = trained.predict(&engine, &Sequences::values(1, new.clone()))?;
    for (own, predicted) in new.iter().zip(predicted) {
        let largest = own.iter().copied().fold(-1.0, f32::max);
        println!("the largest of twelve is {largest:.2}; predicted {:.2}", predicted[0]);
    }
    Ok(())
}
