//! PyTorch's state dicts as safetensors: `weight_ih_l{k}`, `weight_hh_l{k}`, `bias_ih_l{k}`,
//! `bias_hh_l{k}`, `weight_hr_l{k}`, each with `_reverse`; of single cells without `_l{k}`.
//!
//! What PyTorch has no name for goes into `weight_peephole_l{k}` and, as JSON, into the file's
//! metadata under [`METADATA`]; a file that has it is read with it.

use super::language_model::nobody_has;
use super::{CellChoice, FoundLayer, LayerFacts, choice_for, told_cell};
use crate::cell::CellKind;
use crate::error::{Error, Result};
use crate::format::{TensorFile, read_some_tensors};
use crate::graph::{Direction, RecurrentNode};
use crate::task::{Description, stem};
use crate::tensor::{HostTensor, require_finite};
use ndarray::{Array, Dimension};
use std::collections::BTreeMap;
use std::path::Path;

/// Where the facts about the layers stand in the metadata of files that we write.
pub const METADATA: &str = "recurra.layers";

const WEIGHT_IH: &str = "weight_ih";
const WEIGHT_HH: &str = "weight_hh";
const BIAS_IH: &str = "bias_ih";
const BIAS_HH: &str = "bias_hh";
const WEIGHT_HR: &str = "weight_hr";
const PEEPHOLE: &str = "weight_peephole";
const STEMS: [&str; 6] = [WEIGHT_IH, WEIGHT_HH, BIAS_IH, BIAS_HH, WEIGHT_HR, PEEPHOLE];
/// Parameters of our layers that other software has no place for.
const OURS: [&str; 6] = [
    "norm_ih_weight",
    "norm_hh_weight",
    "norm_cell_weight",
    "norm_cell_bias",
    "batch_norm_weight",
    "initial",
];

/// A parameter's name in its parts: `{prefix}.{stem}_l{layer}_reverse`.
struct Name<'a> {
    prefix: &'a str,
    stem: &'a str,
    /// None of a single cell.
    layer: Option<usize>,
    reverse: bool,
}

impl<'a> Name<'a> {
    fn parse(name: &'a str) -> Option<Self> {
        let (prefix, last) = name.rsplit_once('.').unwrap_or(("", name));
        let stem = STEMS.into_iter().chain(OURS).find(|stem| last.starts_with(stem))?;
        let rest = &last[stem.len()..];
        if rest.is_empty() {
            return Some(Name { prefix, stem, layer: None, reverse: false });
        }
        let number = rest.strip_prefix("_l")?;
        let (number, reverse) = match number.strip_suffix("_reverse") {
            Some(number) => (number, true),
            None => (number, false),
        };
        Some(Name { prefix, stem, layer: Some(number.parse().ok()?), reverse })
    }
}

/// The layers of a file.
pub(super) fn layers(path: &Path, choice: Option<CellChoice>) -> Result<Vec<FoundLayer>> {
    let file = read_some_tensors(path, |name| Name::parse(name).is_some())?;
    let said: Vec<LayerFacts> = match file.metadata.get(METADATA) {
        None => Vec::new(),
        Some(text) => serde_json::from_str(text)
            .map_err(|e| Error::format(path, format!("its metadata '{METADATA}': {e}")))?,
    };
    // Prefix and layer, then direction, then stem.
    type Parts<'a> = BTreeMap<&'a str, (&'a str, &'a HostTensor)>;
    let mut found: BTreeMap<(&str, Option<usize>), BTreeMap<bool, Parts<'_>>> = BTreeMap::new();
    for (name, tensor) in &file.tensors {
        if let Some(Name { prefix, stem, layer, reverse }) = Name::parse(name) {
            let directions = found.entry((prefix, layer)).or_default();
            directions.entry(reverse).or_default().insert(stem, (name, tensor));
        }
    }
    // What our own files say of their layers, by their names: nobody else calls a module so.
    let own = |prefix: &str| {
        let last = prefix.rsplit(['.', '/']).next().unwrap_or_default();
        let cells = CellKind::ALL.into_iter().filter(|cell| !CellKind::CLASSIC.contains(cell));
        cells.map(CellKind::name).find(|name| *name == last)
    };
    let foreign = |prefix: &&str| own(prefix).filter(|cell| CellChoice::named(cell).is_none());
    if let Some(cell) = found.keys().find_map(|(prefix, _)| foreign(prefix)) {
        return Err(Error::format(path, nobody_has(cell).to_string()));
    }
    let described = described_cell(path);
    // A stem alone is some other module's parameter.
    found.retain(|_, directions| directions.values().any(|parts| parts.contains_key(WEIGHT_HH)));
    let mut layers = Vec::new();
    for ((prefix, layer), directions) in found {
        let layer = layer.unwrap_or(0);
        let title =
            if prefix.is_empty() { format!("l{layer}") } else { format!("{prefix}.l{layer}") };
        let said = said.iter().find(|facts| facts.name == prefix && facts.layer == layer);
        let choice = match own(prefix).and_then(CellChoice::named) {
            Some(own) => Some(own),
            None => choice.or(described.filter(|(name, _)| *name == prefix).map(|own| own.1)),
        };
        let mut node: Option<RecurrentNode> = None;
        for (reverse, parts) in &directions {
            let read = Reader { path, title: &title, parts };
            let one = read.direction(*reverse, choice, said)?;
            match &mut node {
                None => node = Some(one),
                Some(node) => node.directions.extend(one.directions),
            }
        }
        let Some(node) = node else { continue };
        node.check().map_err(|e| Error::format(path, e.to_string()))?;
        let mut facts = LayerFacts::of(&node, prefix.to_string(), layer);
        facts.batch_first = said.and_then(|said| said.batch_first);
        let ours = directions.values().flatten().find(|(stem, _)| OURS.contains(stem));
        let weights = match ours {
            None => Ok(node),
            Some((_, (name, _))) => {
                Err(format!("neither ONNX nor PyTorch has a place for '{name}'"))
            }
        };
        layers.push(FoundLayer { facts, weights });
    }
    Ok(layers)
}

/// The name and the cell of the recurrent layers in a model's file of ours, as the `config.json` beside it says: the
/// names leave open which RNN it is.
fn described_cell(path: &Path) -> Option<(&'static str, CellChoice)> {
    let model = Description::read(path.parent()?).ok()?.model;
    let cell = model.get("cell").or_else(|| model.get("recurrent")?.get("cell"))?.as_str()?;
    let kind = CellKind::ALL.into_iter().find(|kind| kind.name() == cell)?;
    Some((stem(kind), CellChoice::named(cell)?))
}

/// The tensors of one direction of one layer, by their stems.
struct Reader<'a> {
    path: &'a Path,
    title: &'a str,
    parts: &'a BTreeMap<&'a str, (&'a str, &'a HostTensor)>,
}

impl Reader<'_> {
    fn get<D: Dimension>(&self, stem: &str) -> Result<Option<Array<f32, D>>> {
        let Some((name, tensor)) = self.parts.get(stem) else { return Ok(None) };
        let finite = require_finite(name, tensor.view());
        finite.map_err(|e| Error::format(self.path, e.to_string()))?;
        let shaped = (*tensor).clone().into_dimensionality();
        let bad = |_| Error::format(self.path, format!("'{name}' has shape {:?}", tensor.shape()));
        shaped.map(Some).map_err(bad)
    }

    fn need<D: Dimension>(&self, stem: &str) -> Result<Array<f32, D>> {
        self.get(stem)?.ok_or_else(|| Error::Missing {
            tensor: format!("{stem} of layer {}", self.title),
            place: self.path.display().to_string(),
        })
    }

    /// A layer of this direction alone.
    fn direction(
        &self,
        reverse: bool,
        choice: Option<CellChoice>,
        said: Option<&LayerFacts>,
    ) -> Result<RecurrentNode> {
        let weight_ih = self.need::<ndarray::Ix2>(WEIGHT_IH)?;
        let weight_hh = self.need::<ndarray::Ix2>(WEIGHT_HH)?;
        let projection = self.get::<ndarray::Ix2>(WEIGHT_HR)?;
        let bias = match (self.get(BIAS_IH)?, self.get(BIAS_HH)?) {
            (Some(input), Some(recurrent)) => Some([input, recurrent]),
            (None, None) => None,
            (given, _) => {
                let missing = if given.is_some() { BIAS_HH } else { BIAS_IH };
                return Err(Error::Missing {
                    tensor: format!("{missing} of layer {}", self.title),
                    place: self.path.display().to_string(),
                });
            }
        };
        let hidden = projection.as_ref().map_or(weight_hh.ncols(), |p| p.ncols());
        let gates = weight_hh.nrows() / hidden.max(1);
        let choice = choice_for(gates, choice);
        let (cell, activations) = match said {
            Some(said) => {
                let at = said.directions.iter().position(|d| *d == super::direction_name(reverse));
                let listed = said.activations.as_ref().zip(at).and_then(|(list, at)| list.get(at));
                let chosen = choice.filter(|choice| choice.cell == said.cell);
                let open = || chosen.map_or_else(Vec::new, CellChoice::activations);
                (said.cell, listed.cloned().unwrap_or_else(open))
            }
            None => {
                let cell = told_cell(self.path, self.title, gates, choice)?;
                let open = cell.activations().len() == 1;
                let usual = if open { Vec::new() } else { cell.activations().to_vec() };
                (cell, choice.map_or(usual, CellChoice::activations))
            }
        };
        Ok(RecurrentNode {
            name: self.title.to_string(),
            cell,
            input: weight_ih.ncols(),
            hidden,
            clip: said.and_then(|said| said.clip),
            coupled: said.is_some_and(|said| said.coupled),
            directions: vec![Direction {
                reverse,
                activations,
                weight_ih,
                weight_hh,
                bias,
                peephole: self.get(PEEPHOLE)?,
                projection,
            }],
        })
    }
}

/// The layers in PyTorch's names, order and shapes, with their facts in the metadata.
///
/// # Errors
/// A layer whose weights can't be had; two layers of one name.
pub fn to_tensors(layers: &[FoundLayer]) -> Result<TensorFile> {
    let mut file = TensorFile::default();
    let mut all = Vec::new();
    for found in layers {
        let LayerFacts { name, layer, .. } = &found.facts;
        let node = found.weights.as_ref().map_err(|reason| Error::invalid(reason.clone()))?;
        let dot = if name.is_empty() { "" } else { "." };
        for direction in &node.directions {
            let suffix = if direction.reverse { "_reverse" } else { "" };
            let mut put = |stem: &str, tensor: HostTensor| -> Result<()> {
                let full = format!("{name}{dot}{stem}_l{layer}{suffix}");
                let dense = tensor.as_standard_layout().into_owned();
                match file.tensors.insert(full.clone(), dense) {
                    None => Ok(()),
                    Some(_) => Err(Error::invalid(format!("there are two tensors '{full}'"))),
                }
            };
            put(WEIGHT_IH, direction.weight_ih.clone().into_dyn())?;
            put(WEIGHT_HH, direction.weight_hh.clone().into_dyn())?;
            if let Some([input, recurrent]) = &direction.bias {
                put(BIAS_IH, input.clone().into_dyn())?;
                put(BIAS_HH, recurrent.clone().into_dyn())?;
            }
            if let Some(peephole) = &direction.peephole {
                put(PEEPHOLE, peephole.clone().into_dyn())?;
            }
            if let Some(projection) = &direction.projection {
                put(WEIGHT_HR, projection.clone().into_dyn())?;
            }
        }
        all.push(&found.facts);
    }
    let text = serde_json::to_string(&all).map_err(|e| Error::invalid(e.to_string()))?;
    file.metadata.insert(METADATA.to_string(), text);
    Ok(file)
}
