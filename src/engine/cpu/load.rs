//! Makes a program of a recording.

use super::beside::{Arranged, Lane, Stage};
use super::input::apart;
use super::lasting::{Lasting, format_of, weights_of, writes_of};
use super::program::{
    CpuLane, CpuLaunch, CpuProgram, CpuStage, INPUTS, Place, SharedTensor, StepInput,
};
use super::store::CpuStore;
use super::{Context, CpuEngine, Names, Scratch, matmul};
use crate::engine::{Strategy, WeightFormat};
use crate::error::Result;
use crate::kernel::{Access, BufferId, Kernel, Op};
use crate::recording::{Recording, Role};
use std::ops::Range;

/// What is known of a program while its launches are made.
struct Maker<'a> {
    recording: &'a Recording,
    lasting: Lasting,
    place: &'a [usize],
    shared: &'a [SharedTensor],
    /// How weights that last are kept.
    format: WeightFormat,
    /// The last launch that touches a buffer.
    touched: Vec<usize>,
    /// The first that writes it.
    written: Vec<usize>,
    /// The scratch of steps that share weights and a phase (they share their transpose), in one lane with its threads.
    layers: Vec<(BufferId, u8, [usize; 2])>,
    /// The copies of buffers that lanes have.
    copies: Vec<(BufferId, usize)>,
    /// The place of the first of them.
    first_copy: usize,
    /// Lanes' scratches for launches that have none of their own, the first for launches outside of lanes.
    spare: usize,
}

impl Maker<'_> {
    /// The scratch of a launch: first the spare ones.
    fn scratch(&mut self, range: &Range<usize>, lane: [usize; 2]) -> usize {
        let launch = &apart(&self.recording.launches()[range.clone()]).1[0];
        let phase = match &launch.op {
            Op::StepForward(k) => Some(k.phase as u8),
            Op::SequenceForward(k) => Some(k.step.phase as u8),
            Op::StepBackward(k) => Some(16 + k.phase as u8),
            Op::SequenceBackward(k) => Some(16 + k.step.phase as u8),
            Op::Matmul(k) if matmul::keeps_weights(k, self.format) => {
                Some(32 + u8::from(k.b_transposed))
            }
            _ => None,
        };
        let Some((phase, weights)) = phase.zip(weights_of(launch)) else { return lane[0] };
        let layer = (weights, phase, lane);
        let known = self.layers.iter().position(|&l| l == layer).unwrap_or_else(|| {
            self.layers.push(layer);
            self.layers.len() - 1
        });
        self.spare + known
    }

    /// `lane` is the lane's number, and its threads.
    fn launch(&mut self, range: &Range<usize>, lane: [usize; 2]) -> CpuLaunch {
        let (input, steps) = apart(&self.recording.launches()[range.clone()]);
        let launch = &steps[0];
        let bindings = launch.op.kernel().bindings();
        let bound = |id: BufferId| {
            let len = self.recording.get(id).len;
            Place { place: self.place[id.0], len, is_common: false }
        };
        let of = |access| {
            let pairs = bindings.iter().zip(&launch.buffers);
            pairs.filter(|p| p.0.access == access).map(|p| bound(*p.1)).collect()
        };
        let names =
            |access| bindings.iter().filter(|b| b.access == access).map(|b| b.name).collect();
        let gates = bindings.iter().zip(&launch.buffers).find(|b| b.0.name == "gates");
        let place_of = |id: BufferId| self.place[id.0];
        let of_store = |id| self.shared.iter().position(|tensor| tensor.place == place_of(id));
        let ops: Vec<Op> = steps.iter().map(|launch| launch.op.clone()).collect();
        let weights = self.lasting.weights(launch).and_then(of_store);
        let mut read = Names { reads: names(Access::Read), writes: names(Access::Write) };
        let mut reads: Vec<Place> = of(Access::Read);
        let input = input.and_then(|launch| {
            let Op::Matmul(product) = &launch.op else { return None };
            let bindings = product.bindings();
            for [name, own] in INPUTS {
                let at = bindings.iter().position(|binding| binding.name == name)?;
                read.reads.push(own);
                reads.push(bound(launch.buffers[at]));
            }
            let weights = self.lasting.weights(launch).and_then(of_store);
            let of_product = [launch.op.clone()];
            let format = format_of(&of_product, weights.is_some(), self.format).unwrap_or_default();
            Some(Box::new(StepInput { product: product.clone(), weights, format }))
        });
        CpuLaunch {
            input,
            format: format_of(&ops, weights.is_some(), self.format).unwrap_or_default(),
            ops,
            names: read,
            reads,
            writes: of(Access::Write),
            keeps_gates: gates.is_none_or(|gates| self.touched[gates.1.0] >= range.end),
            weights,
            stays: weights_of(launch).is_some_and(|id| self.written[id.0] >= range.start),
            scratch: self.scratch(range, lane),
        }
    }

    /// Its launches, with places in its own memory or the common one.
    fn lane(&mut self, number: usize, lane: &Lane, context: &Context) -> Result<CpuLane> {
        let units = lane.units.iter();
        let mut launches: Vec<_> =
            units.map(|unit| self.launch(unit, [number, lane.threads])).collect();
        let (mut places, mut scratches) = (Vec::new(), Vec::new());
        for written in launches.iter().flat_map(|launch| &launch.writes) {
            number_of(&mut places, written.place);
        }
        for launch in &mut launches {
            launch.scratch = number_of(&mut scratches, launch.scratch);
            for bound in launch.reads.iter_mut().chain(&mut launch.writes) {
                match places.iter().position(|&place| place == bound.place) {
                    Some(own) => bound.place = own,
                    None => bound.is_common = true,
                }
            }
        }
        let lent = lane.lent.iter().map(|(id, elements)| {
            let known = self.copies.iter().position(|copy| *copy == (*id, number));
            let copy = known.unwrap_or_else(|| {
                self.copies.push((*id, number));
                self.copies.len() - 1
            });
            (self.place[id.0], self.first_copy + copy, elements.clone())
        });
        let lent: Vec<_> = lent.collect();
        for bound in launches.iter_mut().flat_map(|launch| &mut launch.reads) {
            let copy = lent.iter().find(|copy| bound.is_common && copy.0 == bound.place);
            bound.place = copy.map_or(bound.place, |copy| copy.1);
        }
        let context = context.lane(number, lane.threads)?;
        Ok(CpuLane { launches, context, places, scratches, lent })
    }
}

/// Where something is in a list, behind which it comes if it is not there.
fn number_of(list: &mut Vec<usize>, item: usize) -> usize {
    list.iter().position(|&other| other == item).unwrap_or_else(|| {
        list.push(item);
        list.len() - 1
    })
}

impl CpuProgram {
    /// Over one member's store.
    pub fn new(engine: &CpuEngine, arranged: &Arranged, store: &CpuStore) -> Result<Self> {
        let (context, insists) = (&engine.context, engine.strategy != Strategy::Auto);
        let Arranged { recording, stages, plan, .. } = arranged;
        let mut memory: Vec<Vec<f32>> = plan.slots.iter().map(|&n| vec![0.0; n]).collect();
        let mut place = Vec::new();
        let mut shared = Vec::new();
        let lasting = Lasting::new(recording);
        let mut tensors = store.lock();
        for (id, buffer) in recording.iter() {
            if let Some(slot) = plan.slot_of[id.0] {
                place.push(slot);
                continue;
            }
            place.push(memory.len());
            match buffer.role {
                Role::Parameter | Role::State => {
                    let found = tensors.by_name.get(&buffer.name).map(|t| t.words.len());
                    crate::engine::check_shared(found, buffer)?;
                    if found.is_none() {
                        tensors.set(&buffer.name, vec![0.0; buffer.len]);
                    }
                    shared.push(SharedTensor {
                        name: buffer.name.clone(),
                        place: memory.len(),
                        len: buffer.len,
                        is_written: lasting.is_written(id),
                        version: 0,
                    });
                    memory.push(Vec::new());
                }
                Role::Temporary => memory.push(Vec::new()),
                Role::Input | Role::Output => memory.push(vec![0.0; buffer.len]),
            }
        }
        drop(tensors);
        let (mut touched, mut written) = (vec![0; place.len()], vec![usize::MAX; place.len()]);
        for (number, launch) in recording.launches().iter().enumerate() {
            launch.buffers.iter().for_each(|id| touched[id.0] = number);
            for id in writes_of(launch) {
                written[id.0] = written[id.0].min(number);
            }
        }
        let most_lanes = stages.iter().map(|stage| match stage {
            Stage::One(_) => 1,
            Stage::Lanes(lanes) => lanes.len(),
        });
        let spare = most_lanes.max().unwrap_or(1);
        let (shared_of, place_of) = (&shared, &place);
        let mut maker = Maker {
            recording,
            lasting,
            place: place_of,
            shared: shared_of,
            format: engine.weights,
            touched,
            written,
            layers: Vec::new(),
            copies: Vec::new(),
            first_copy: memory.len(),
            spare,
        };
        let stages = stages.iter().map(|stage| match stage {
            Stage::One(unit) => Ok(CpuStage::One(maker.launch(unit, [0, context.threads]))),
            Stage::Lanes(lanes) => {
                let lanes = lanes.iter().enumerate();
                let lanes = lanes.map(|(number, lane)| maker.lane(number, lane, context));
                Ok(CpuStage::Lanes(lanes.collect::<Result<_>>()?))
            }
        });
        let stages: Vec<CpuStage> = stages.collect::<Result<_>>()?;
        let scratches = spare + maker.layers.len();
        memory.extend(maker.copies.iter().map(|copy| vec![0.0; recording.get(copy.0).len]));
        let is_small = stages.iter().all(|stage| match stage {
            CpuStage::One(launch) => launch.is_small(context.threads),
            CpuStage::Lanes(_) => false,
        });
        Ok(CpuProgram {
            is_small,
            stages,
            scratches: (0..scratches).map(|_| Scratch { insists, ..Scratch::default() }).collect(),
            context: context.clone(),
            store: store.clone(),
            memory,
            place,
            shared,
            runs: 0,
            is_broken: false,
            plan: plan.clone(),
        })
    }
}
