//! Recurrent layers as an ONNX model.

use super::FoundLayer;
use crate::cell::{GateOrder, restore_gates};
use crate::error::{Error, Result};
use crate::format::onnx::build::{Builder, fixed, float, floats, int, ints, named, text, texts};
use crate::format::onnx::{AttributeProto, FLOAT, ModelProto};
use crate::graph::{Direction, RecurrentCell, RecurrentNode};
use crate::tensor::Value;
use ndarray::{Array1, Array2, ArrayD, IxDyn};

/// The axes' names in written models.
pub(super) const TIME: &str = "time";
/// See [`TIME`].
pub(super) const BATCH: &str = "batch";

/// One model over all layers: each stack has an input \[T, B, I\], an output \[T, B, D·H\], and states
/// `h_0`, `c_0`, zeros where they aren't given, and `h_n`, `c_n`, \[L·D, B, H\], as PyTorch has them.
/// Of several stacks each name has the stack's before it: `encoder.input`.
///
/// # Errors
/// What ONNX's operators do not have, a projection; an RNN whose activation isn't known; a stack whose
/// layers do not fit each other.
pub fn export_layers(layers: &[FoundLayer]) -> Result<ModelProto> {
    let mut stacks: Vec<(&str, Vec<&RecurrentNode>)> = Vec::new();
    for found in layers {
        let node = found.weights.as_ref().map_err(|reason| Error::invalid(reason.clone()))?;
        let name = found.facts.name.as_str();
        match stacks.iter_mut().find(|(of, _)| *of == name) {
            Some((_, nodes)) => nodes.push(node),
            None => stacks.push((name, vec![node])),
        }
    }
    let mut builder = Builder::new("recurrent layers");
    let several = stacks.len() > 1;
    for (name, nodes) in stacks {
        let prefix = match name {
            "" => String::new(),
            name if several => format!("{name}."),
            _ => String::new(),
        };
        let stack = Stack { prefix: &prefix, name, nodes: &nodes };
        let (input, output) = (format!("{prefix}input"), format!("{prefix}output"));
        let [time, batch] = [TIME, BATCH].map(|axis| named(&format!("{prefix}{axis}")));
        let axes = [time.clone(), batch.clone(), fixed(nodes[0].input)];
        builder.input(&input, FLOAT, &axes);
        let top = stack.add(&mut builder, &input)?;
        builder.one("Identity", &output, &[&top], Vec::new());
        builder.output(&output, FLOAT, &[time, batch, fixed(stack.width())]);
        stack.add_final_states(&mut builder);
    }
    Ok(builder.finish(&[]))
}

/// Layers one over the other.
pub(super) struct Stack<'a> {
    /// Before the names of inputs and outputs.
    pub prefix: &'a str,
    /// Before the names of nodes and weights.
    pub name: &'a str,
    pub nodes: &'a [&'a RecurrentNode],
}

impl Stack<'_> {
    /// D·H, the width of its output.
    pub fn width(&self) -> usize {
        self.nodes.last().map_or(0, |node| node.directions.len() * node.hidden)
    }

    fn states(&self) -> &'static [&'static str] {
        match self.nodes.first() {
            Some(node) if node.cell == RecurrentCell::Lstm => &["h", "c"],
            _ => &["h"],
        }
    }

    /// [L·D, B, H], by the batch's name.
    fn state_axes(&self, batch: &str) -> [crate::format::onnx::Extent; 3] {
        let (first, count) = (self.nodes[0], self.nodes.len());
        let batch = named(&format!("{}{batch}", self.prefix));
        [fixed(count * first.directions.len()), batch, fixed(first.hidden)]
    }

    fn check(&self) -> Result<()> {
        let first = self.nodes[0];
        let mut width = first.input;
        for node in self.nodes {
            let fail =
                |reason: &str| Err(Error::invalid(format!("layer '{}' {reason}", node.name)));
            node.check()?;
            if node.directions.iter().any(|direction| direction.projection.is_some()) {
                let what = format!("layer '{}': a projection (weight_hr)", node.name);
                return Err(Error::unsupported(format!("{what}: ONNX's LSTM has none")));
            }
            if node.directions.iter().any(|direction| direction.activations.is_empty()) {
                return fail("is an RNN of tanh or relu, which the file doesn't say: give --cell");
            }
            let shape = |node: &RecurrentNode| (node.cell, node.hidden, node.directions.len());
            if node.input != width || shape(node) != shape(first) {
                return fail("does not fit the layers below it");
            }
            width = node.directions.len() * node.hidden;
        }
        Ok(())
    }

    fn own(&self, name: &str) -> String {
        if self.name.is_empty() { name.to_string() } else { format!("{}/{name}", self.name) }
    }

    /// Adds the stack over `x` \[T, B, I\] with its initial states as optional inputs: the name of
    /// its output \[T, B, D·H\].
    pub fn add(&self, builder: &mut Builder, x: &str) -> Result<String> {
        self.check()?;
        let own = |name: &str| self.own(name);
        let count = self.nodes.len();
        let directions = self.nodes[0].directions.len();
        let hidden = self.nodes[0].hidden;
        // The batch, for initial states that are given for one row or not at all.
        let batch = vec![int("start", 1), int("end", 2)];
        let batch = builder.one("Shape", &own("batch"), &[x], batch);
        let one = builder.ints(&own("one"), &[1]);
        let rows = builder.one("Concat", &own("rows"), &[&one, &batch, &one], vec![int("axis", 0)]);
        let sizes = builder.ints(&own("directions"), &vec![directions as i64; count]);
        let mut initial = Vec::new();
        for &state in self.states() {
            let name = format!("{}{state}_0", self.prefix);
            let zeros = ArrayD::zeros(IxDyn(&[count * directions, 1, hidden]));
            builder.constant(&name, &Value::F32(zeros));
            builder.input(&name, FLOAT, &self.state_axes("batch_or_1"));
            let wide = own(&format!("{state}_0_rows"));
            let wide = builder.one("Expand", &wide, &[&name, &rows], Vec::new());
            let parts: Vec<String> =
                (0..count).map(|layer| own(&format!("{state}_0_l{layer}"))).collect();
            let names: Vec<&str> = parts.iter().map(String::as_str).collect();
            builder.node(
                "Split",
                &own(&format!("{state}_0")),
                &[&wide, &sizes],
                &names,
                Vec::new(),
            );
            initial.push(parts);
        }
        let mut top = x.to_string();
        for (layer, node) in self.nodes.iter().enumerate() {
            let initial: Vec<&str> = initial.iter().map(|parts| parts[layer].as_str()).collect();
            top = self.add_layer(builder, layer, node, &top, &initial)?;
        }
        Ok(top)
    }

    fn add_layer(
        &self,
        builder: &mut Builder,
        layer: usize,
        node: &RecurrentNode,
        x: &str,
        initial: &[&str],
    ) -> Result<String> {
        let name = |what: &str| self.own(&format!("{what}_l{layer}"));
        let [w, r, b, p] = constants(node)?;
        let mut put = |what: &str, value: Option<Value>| match value {
            Some(value) => builder.constant(&name(what), &value),
            None => String::new(),
        };
        let (w, r, b, p) = (put("W", w), put("R", r), put("B", b), put("P", p));
        let mut inputs = vec![x, &w, &r, &b, "", initial[0]];
        if let Some(c) = initial.get(1) {
            inputs.push(c);
        }
        if !p.is_empty() {
            inputs.push(&p);
        }
        let y = name("Y");
        let finals: Vec<String> =
            self.states().iter().map(|state| name(&format!("{state}_n"))).collect();
        let mut outputs = vec![y.as_str()];
        outputs.extend(finals.iter().map(String::as_str));
        let operator = node.cell.operator();
        let title = name(operator);
        builder.node(operator, &title, &inputs, &outputs, attributes(node));
        let out = name("output");
        if let [_] = node.directions[..] {
            let axis = builder.ints(&name("direction_axis"), &[1]);
            return Ok(builder.one("Squeeze", &out, &[&y, &axis], Vec::new()));
        }
        let order = vec![ints("perm", &[0, 2, 1, 3])];
        let turned = builder.one("Transpose", &name("Y_by_row"), &[&y], order);
        let shape = builder.ints(&name("joined"), &[0, 0, -1]);
        Ok(builder.one("Reshape", &out, &[&turned, &shape], Vec::new()))
    }

    /// The final states of all layers as outputs.
    pub fn add_final_states(&self, builder: &mut Builder) {
        for &state in self.states() {
            let parts: Vec<String> = (0..self.nodes.len())
                .map(|layer| self.own(&format!("{state}_n_l{layer}")))
                .collect();
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            let name = format!("{}{state}_n", self.prefix);
            builder.one("Concat", &name, &parts, vec![int("axis", 0)]);
            builder.output(&name, FLOAT, &self.state_axes(BATCH));
        }
    }
}

/// W, R, B and P, gates in ONNX's order.
fn constants(node: &RecurrentNode) -> Result<[Option<Value>; 4]> {
    let (count, h) = (node.directions.len(), node.hidden);
    let gates = node.cell.gate_kind().gates();
    let theirs = |values: Vec<f32>| -> Result<Vec<f32>> {
        let mut all = values;
        if node.coupled {
            // The operator has rows for f, though it does not use them.
            let block = all.len() / node.gates();
            all.splice(block..block, vec![0.0; block]);
        }
        restore_gates(node.cell.gate_kind(), GateOrder::Onnx, &all)
    };
    let value = |shape: &[usize], values: Vec<f32>| -> Result<Value> {
        let array = ArrayD::from_shape_vec(IxDyn(shape), values);
        Ok(Value::F32(array.map_err(|e| Error::invalid(format!("'{}': {e}", node.name)))?))
    };
    let matrix = |of: fn(&Direction) -> &Array2<f32>, columns: usize| -> Result<Value> {
        let mut all = Vec::new();
        for direction in &node.directions {
            all.extend(theirs(of(direction).iter().copied().collect())?);
        }
        value(&[count, gates * h, columns], all)
    };
    let w = matrix(|direction| &direction.weight_ih, node.input)?;
    let r = matrix(|direction| &direction.weight_hh, h)?;
    let mut b = Vec::new();
    let mut p = Vec::new();
    for direction in &node.directions {
        // Where only one direction has them, the other one's are zeros.
        let zeros = Array1::zeros(node.gates() * h);
        let both = direction.bias.clone().unwrap_or_else(|| [zeros.clone(), zeros]);
        for bias in both {
            b.extend(theirs(bias.to_vec())?);
        }
        let block = |k: usize| match &direction.peephole {
            Some(peephole) => peephole.iter().skip(k * h).take(h).copied().collect(),
            None => vec![0.0; h],
        };
        // i, o, f from i, f, o or i, o.
        let order: [Vec<f32>; 3] = match node.coupled {
            true => [block(0), block(1), vec![0.0; h]],
            false => [block(0), block(2), block(1)],
        };
        p.extend(order.concat());
    }
    let any = |has: fn(&Direction) -> bool| node.directions.iter().any(has);
    let b = if any(|d| d.bias.is_some()) { Some(value(&[count, 2 * gates * h], b)?) } else { None };
    let p = if any(|d| d.peephole.is_some()) { Some(value(&[count, 3 * h], p)?) } else { None };
    Ok([Some(w), Some(r), b, p])
}

/// The attributes, those left out that are as the operator has them anyway.
fn attributes(node: &RecurrentNode) -> Vec<AttributeProto> {
    let mut list = vec![int("hidden_size", node.hidden as i64)];
    match node.directions[..] {
        [_, _] => list.push(text("direction", "bidirectional")),
        [Direction { reverse: true, .. }] => list.push(text("direction", "reverse")),
        _ => {}
    }
    if node.directions.iter().any(|direction| direction.activations != node.cell.activations()) {
        let all = node.directions.iter().flat_map(|direction| &direction.activations);
        let all: Vec<_> = all.map(|activation| activation.to_onnx()).collect();
        let names: Vec<&str> = all.iter().map(|(name, ..)| *name).collect();
        list.push(texts("activations", &names));
        let alphas: Vec<f32> = all.iter().filter_map(|(_, alpha, _)| *alpha).collect();
        let betas: Vec<f32> = all.iter().filter_map(|(.., beta)| *beta).collect();
        if !alphas.is_empty() {
            list.push(floats("activation_alpha", &alphas));
        }
        if !betas.is_empty() {
            list.push(floats("activation_beta", &betas));
        }
    }
    list.extend(node.clip.map(|clip| float("clip", clip)));
    match node.cell {
        RecurrentCell::Gru => list.push(int("linear_before_reset", 1)),
        RecurrentCell::Lstm if node.coupled => list.push(int("input_forget", 1)),
        _ => {}
    }
    list
}
