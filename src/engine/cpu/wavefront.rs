//! Which chains of layers the CPU engine cuts into parts of time (`engine/wavefront.rs`), so that parts of two layers
//! become lanes beside one another (`beside.rs`).

use super::lasting::Lasting;
use super::matmul;
use crate::engine::wavefront::{Chain, chains, cut_chains};
use crate::engine::{Choice, Strategy};
use crate::kernel::{Matmul, Op};
use crate::recording::{Launch, Recording};

/// Into how many parts a chain is cut where that was asked for.
pub const PARTS: [usize; 1] = [8];

/// The recording with its chains in so many parts, if any can be cut with the bits that it has.
pub fn cut(recording: &Recording, parts: usize) -> Option<Recording> {
    let lasting = Lasting::new(recording);
    let cut = |chain: &Chain| chain.cut(parts).filter(|_| keeps_bits(chain, parts, &lasting));
    let launches = cut_chains(recording.launches(), cut)?;
    Some(recording.with_launches(launches))
}

/// How the chains of a recording go that was cut into so many parts.
pub fn choices(recording: &Recording, parts: usize) -> Vec<Choice> {
    let lasting = Lasting::new(recording);
    let mut list = Vec::new();
    let cut = |chain: &&Chain| chain.cut(parts).is_some() && keeps_bits(chain, parts, &lasting);
    for chain in chains(recording.launches()).iter().filter(cut) {
        let choice = Choice {
            kernel: chain.layers[0].all[0].op.kernel().name(),
            layers: chain.layers.len(),
            steps: chain.time(),
            strategy: Strategy::Wavefront,
            measured_ms: None,
            reason: "asked for".to_string(),
            cut: Some(format!("in {} parts of time", chain.parts(parts).len())),
        };
        if !list.contains(&choice) {
            list.push(choice);
        }
    }
    list
}

/// Whether each part of the products that lead from layer to layer has the bits that it has in the whole.
fn keeps_bits(chain: &Chain, parts: usize, lasting: &Lasting) -> bool {
    let steps = chain.parts(parts);
    let of_part = |launch: &Launch, whole: &Matmul| {
        let lasts = lasting.weights(launch).is_some();
        steps.iter().all(|steps| match launch.op.of_steps(chain.time(), steps) {
            Some(Op::Matmul(part)) => matmul::keeps_bits(whole, &part, lasts),
            _ => false,
        })
    };
    chain.links.iter().flatten().all(|&launch| match &launch.op {
        Op::Matmul(whole) => of_part(launch, whole),
        _ => true,
    })
}
